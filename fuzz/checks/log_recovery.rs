//! Whatever stands in a segment file: the log opens, keeps what is intact, invents nothing, finds
//! the same when it is opened again, and goes on from there.

use segment_log::{Batch, Disk, FaultyDisk, GROUP, Log, LogError, Options, Recovery};

const NAME: &str = "00000000000000000000.log";
const SEGMENT_BYTES_MAX: u64 = 4096;

/// Position, kind, payload.
type Found = (u64, u8, Vec<u8>);

/// The first byte chooses what the rest means.
pub(crate) fn check(data: &[u8]) {
    let Some((mode, data)) = data.split_first() else { return };
    match mode % 4 {
        0 => {
            recover(data);
        }
        1 => {
            let mut file = blank_segment();
            file.extend_from_slice(data);
            recover(&file);
        }
        2 => sealed(data),
        _ => damaged(data),
    }
}

fn open(disk: &FaultyDisk) -> Result<(Log<FaultyDisk>, Recovery, Vec<Found>), LogError> {
    let mut found: Vec<Found> = Vec::new();
    let options = Options { segment_bytes_max: SEGMENT_BYTES_MAX, ..Options::default() };
    let (log, recovery) = Log::open(disk.clone(), options, &mut |record| {
        assert_ne!(record.kind, GROUP);
        found.push((record.position, record.kind, record.payload.to_vec()));
    })?;
    Ok((log, recovery, found))
}

/// Opens a segment file of these bytes; answers what was found in it.
fn recover(file: &[u8]) -> Vec<Found> {
    let disk = FaultyDisk::new(1);
    disk.put(NAME, file);
    let (mut log, recovery, mut found) = match open(&disk) {
        Ok(opened) => opened,
        Err(LogError::Format { .. }) => return Vec::new(),
        Err(error) => panic!("{error}"),
    };
    assert_eq!(recovery.record_count, found.len() as u64);
    let reader = log.reader();
    let mut buffer = Vec::new();
    for (position, kind, payload) in &found {
        assert!(reader.read(*position, &mut buffer).is_ok_and(|head| head.kind == *kind));
        assert_eq!(buffer, *payload);
        assert!(reader.read_range(*position, 64, &mut buffer).is_ok());
        assert!(segment_log::records(&buffer, *position).next().is_some());
    }
    for position in 0..file.len() as u64 {
        let _ = reader.read(position, &mut buffer);
    }
    // What was found is nowhere made longer, but for a header.
    let names = disk.list().unwrap_or_default();
    for name in names.iter().filter(|name| name.starts_with('0')) {
        assert!(disk.contents(name).is_some_and(|bytes| bytes.len() <= file.len().max(32)));
    }
    let in_file = found.clone();
    let mut batch = Batch::new(log.next_position());
    let position = batch.append(1, 0, &[b"next"]);
    assert!(log.write(&batch).and_then(|()| log.sync()).is_ok());
    found.push((position, 1, b"next".to_vec()));
    disk.crash();
    let Ok((_, again, found_again)) = open(&disk) else { panic!("does not open again") };
    assert_eq!(found_again, found);
    assert_eq!(again.torn_tail, None);
    in_file
}

/// Records that carry the right checks whatever they hold, members and groups in any order.
fn sealed(data: &[u8]) {
    let mut file = blank_segment();
    let mut rest = data;
    while let Some((&[len, kind, style], after)) = rest.split_first_chunk() {
        let position = file.len() as u64 - 32;
        let (payload, after) = after.split_at(after.len().min(usize::from(len)));
        // A group may contain what the next round writes; its length then runs past its payload.
        let (kind, is_member) = (if style & 1 == 0 { kind } else { GROUP }, style & 2 != 0);
        file.extend_from_slice(&seal(position, kind, is_member, payload));
        rest = after;
    }
    recover(&file);
    // The same as the payload of a group that is itself intact.
    let shifted = seal(0, GROUP, false, data);
    let mut file = blank_segment();
    file.extend_from_slice(&shifted);
    recover(&file);
}

/// A good log in which bytes are then changed.
fn damaged(data: &[u8]) {
    let Some((&[count, cut_low, cut_high, hits], changes)) = data.split_first_chunk() else {
        return;
    };
    let mut batch = Batch::new(0);
    // Extents of what must be found as a whole.
    let mut extents = Vec::new();
    for index in 0..count % 32 {
        let start = batch.end();
        let payload = vec![index.wrapping_mul(37); usize::from(index) * 7 % 50];
        if index % 4 == 3 {
            batch.begin_group();
            batch.append(index, 0, &[&payload]);
            batch.append(index, 1, &[&payload]);
            batch.end_group();
        } else {
            batch.append(index, 0, &[&payload]);
        }
        extents.push(start..batch.end());
    }
    let mut file = blank_segment();
    file.extend_from_slice(batch.as_bytes());
    let headers: Vec<u64> = extents.iter().map(|extent| extent.start).collect();
    let (mut first, mut in_headers, mut touched) = (u64::MAX, false, Vec::new());
    for change in changes.chunks_exact(3).take(usize::from(hits % 8)) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]]));
        if at >= 32 && at < file.len() && change[2] != 0 {
            file[at] ^= change[2];
            let position = at as u64 - 32;
            first = first.min(position);
            in_headers |= headers.iter().any(|header| (*header..header + 12).contains(&position));
            touched.push(position);
        }
    }
    let cut = usize::from(u16::from_le_bytes([cut_low, cut_high])).max(32);
    file.truncate(cut);
    let data_len = file.len() as u64 - 32;
    let found = recover(&file);
    let mut originals = segment_log::records(batch.as_bytes(), 0);
    for (position, kind, payload) in &found {
        let Some(original) = originals.find(|original| original.position == *position) else {
            panic!("invented a record at {position}");
        };
        assert_eq!((original.kind, original.payload), (*kind, &payload[..]));
    }
    for extent in &extents {
        let is_whole = extent.end <= data_len
            && !touched.iter().any(|position| extent.contains(position))
            // A damaged header whose sixteen bits hold by chance hides what its length covers.
            && (extent.end <= first || !in_headers);
        let members = segment_log::records(batch.as_bytes(), 0)
            .filter(|record| extent.contains(&record.position));
        let count = members.filter(|m| found.iter().any(|f| f.0 == m.position)).count();
        let all = segment_log::records(batch.as_bytes(), 0)
            .filter(|record| extent.contains(&record.position))
            .count();
        assert!(count == 0 || count == all, "half a group");
        assert!(!is_whole || count == all, "lost what is intact at {}", extent.start);
    }
}

/// The header of a segment without records.
fn blank_segment() -> Vec<u8> {
    let disk = FaultyDisk::new(0);
    let _ = open(&disk);
    disk.contents(NAME).unwrap_or_default()
}

/// A record by the letter of docs/storage-format.md, independently of the crate.
fn seal(position: u64, kind: u8, is_member: bool, payload: &[u8]) -> Vec<u8> {
    let fields = payload.len() as u64 | u64::from(kind) << 32 | u64::from(is_member) << 48;
    let mixed =
        (position.wrapping_mul(0xBF58_476D_1CE4_E5B9) ^ fields).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut record = (payload.len() as u32).to_le_bytes().to_vec();
    record.extend_from_slice(&[kind, 0]);
    record.extend_from_slice(&((mixed >> 48) as u16).to_le_bytes());
    let covered = [&position.to_le_bytes()[..], &record, payload].concat();
    record.extend_from_slice(&crc32c(&covered).max(1).to_le_bytes());
    record.extend_from_slice(payload);
    record
}

fn crc32c(bytes: &[u8]) -> u32 {
    let crc = bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82F6_3B78 & 0_u32.wrapping_sub(crc & 1))
        })
    });
    !crc
}
