//! A field table in its bytes: walking it, copying it and encoding the copy must agree.

use amqp::{FieldTable, TableRef};

pub(crate) fn check(data: &[u8]) {
    let borrowed = TableRef::new(data);
    let walked = borrowed.iter().count();
    let Ok(table) = borrowed.to_table() else { return };
    assert_eq!(walked, table.len());
    for (name, _) in table.iter() {
        assert!(matches!(borrowed.get(name), Ok(Some(_))));
    }
    let mut encoded = Vec::new();
    table.encode_with_length(&mut encoded);
    let mut again = Vec::new();
    match FieldTable::decode(&encoded[4..]) {
        Ok(decoded) => decoded.encode_with_length(&mut again),
        Err(error) => panic!("an encoded table does not decode: {error}"),
    }
    assert_eq!(encoded, again);
}
