//! The ledger in SQLite, and in PostgreSQL where there is one.

use super::*;
use crate::ledger::tests::{block, check, outcome};

fn sqlite(directory: &tempfile::TempDir) -> String {
    format!("sqlite:{}", directory.path().join("ledger.db").display())
}

async fn open(url: &str) -> SqlLedger {
    SqlLedger::open(url).await.expect("it opens")
}

#[test]
fn a_file_is_a_ledger_that_processes_share() {
    let directory = tempfile::tempdir().expect("a directory");
    let url = sqlite(&directory);
    block(async {
        let (one, other) = tokio::join!(open(&url), open(&url));
        check(&one).await;
        let key = Key { queue: "q", id: b"shared" };
        let now = jiff::Timestamp::now();
        one.sent(key, now.as_millisecond() as u64).await.expect("noted");
        assert_eq!(other.claim(key, 1, "w").await.expect("asked"), Claim::Ours);
        assert_eq!(one.claim(key, 1, "w").await.expect("asked"), Claim::Theirs);
        // What is another's cannot be given back.
        one.give_back(key);
        assert_eq!(one.claim(key, 1, "w").await.expect("asked"), Claim::Theirs);
        let story = one.story("shared").await.expect("asked").expect("known");
        assert_eq!(story["queues"][0]["state"], "delivered");
        let published_at = story["published_at"].as_str().and_then(|it| it.parse().ok());
        let published_at: jiff::Timestamp = published_at.expect("a time");
        assert_eq!(published_at.as_millisecond(), now.as_millisecond());
        other.settle(&outcome("q", "shared", b"\xff")).await.expect("noted");
        drop(other);
        let later = open(&url).await;
        let story = later.story("shared").await.expect("asked").expect("known");
        assert_eq!((&story["state"], &story["outcome"]), (&"settled".into(), &"processed".into()));
        assert_eq!(story["queues"][0]["result_base64"], "/w==");
        assert!(later.story("nobody's").await.expect("asked").is_none());
    });
}

#[test]
fn many_open_a_new_file_at_the_same_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let url = sqlite(&directory);
    let opening: Vec<_> = (0..8)
        .map(|_| {
            let url = url.clone();
            std::thread::spawn(move || block(async { drop(open(&url).await) }))
        })
        .collect();
    for opening in opening {
        opening.join().expect("it opens");
    }
}

#[test]
fn names_of_any_bytes_are_told_apart() {
    let directory = tempfile::tempdir().expect("a directory");
    let url = sqlite(&directory);
    block(async {
        let ledger = open(&url).await;
        let ids: [&[u8]; 7] =
            [b"a", b"A", b"\0", b"\xff", b"\xfe", "ä".as_bytes(), b"'; DROP TABLE"];
        for queue in ["q", "\0", "p'\"\u{202e}"] {
            for id in ids {
                let claim = ledger.claim(Key { queue, id }, 1, "w\0w").await.expect("asked");
                assert_eq!(claim, Claim::Ours, "{queue:?} {id:?}");
            }
        }
    });
}

#[test]
fn a_ledger_that_cannot_be_opened_says_why_and_repeats_no_password() {
    block(async {
        for url in ["sqlite:/nowhere/at/all.db", "postgres://u:geheim@127.0.0.1:1/db"] {
            let error = SqlLedger::open(url).await.err().expect(url);
            assert_eq!(error.kind(), ErrorKind::Ledger, "{error}");
            assert!(!error.to_string().contains("geheim"), "{error}");
        }
    });
}
