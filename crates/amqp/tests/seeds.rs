//! Replays the seeds of the fuzz targets for frames and field tables.

#[path = "../../../fuzz/checks/field_table.rs"]
mod field_table;
#[path = "../../../fuzz/checks/frame_decoder.rs"]
mod frame_decoder;

fn replay(target: &str, check: fn(&[u8])) {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/");
    let mut count = 0;
    for entry in std::fs::read_dir(format!("{seeds}{target}")).expect("seeds are committed") {
        let path = entry.expect("a directory entry").path();
        check(&std::fs::read(path).expect("a readable seed"));
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn frame_decoder_takes_its_seeds() {
    replay("frame_decoder", frame_decoder::check);
}

#[test]
fn field_table_takes_its_seeds() {
    replay("field_table", field_table::check);
}
