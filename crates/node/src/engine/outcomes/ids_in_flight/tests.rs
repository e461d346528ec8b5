//! The rules one by one, and the protocol under all the interleavings that shuttle finds.

use std::collections::HashMap as Map;

use shuttle::sync::{Arc, Mutex as Shuttled};

use super::*;

impl Locked for Shuttled<IdsInFlight> {
    fn with<R>(&self, work: impl FnOnce(&mut IdsInFlight) -> R) -> R {
        work(&mut self.lock().expect("nobody panicked"))
    }
}

const WINDOW_MS: u64 = 1000;

fn questions(keys: &[u128]) -> Vec<Question> {
    keys.iter().map(|&key| Question { key, window_ms: WINDOW_MS }).collect()
}

/// Asks about these ids with a window that knows nothing.
fn known(ids: &Mutex<IdsInFlight>, now_ms: u64, keys: &[u128]) -> Vec<bool> {
    take_in(ids, now_ms, &questions(keys), |_| None, <[bool]>::to_vec)
}

#[test]
fn an_id_is_known_from_its_first_message_on() {
    let ids = Mutex::default();
    assert_eq!(known(&ids, 0, &[1, 2, 1]), [false, false, true], "twice in one batch");
    assert_eq!(known(&ids, 1, &[2, 3]), [true, false]);
    assert_eq!(known(&ids, WINDOW_MS, &[1]), [false], "it may come again after the window");
}

#[test]
fn what_the_window_knows_is_known() {
    let ids = Mutex::default();
    let ask = |place: usize| (place == 0).then_some(500);
    let take = |now_ms| take_in(&ids, now_ms, &questions(&[1, 2]), ask, <[bool]>::to_vec);
    assert_eq!(take(600), [true, false]);
    assert_eq!(take(1500), [false, true]);
}

#[test]
fn a_queue_without_a_window_knows_nothing() {
    let ids: Mutex<IdsInFlight> = Mutex::default();
    let forgetful = [Question { key: 1, window_ms: 0 }; 2];
    let ask = |_: usize| -> Option<u64> { panic!("nobody needs to know") };
    assert_eq!(take_in(&ids, 0, &forgetful, ask, <[bool]>::to_vec), [false, false]);
}

#[test]
fn an_id_that_is_free_may_come_again_once() {
    let ids = Mutex::default();
    assert_eq!(known(&ids, 0, &[1]), [false]);
    ids.lock().free(1);
    assert!(ids.lock().is_free(1));
    assert_eq!(known(&ids, 1, &[1, 1]), [false, true]);
    assert!(!ids.lock().take_in_again(1, 2), "another message with it has come");
    ids.lock().free(1);
    assert!(ids.lock().take_in_again(1, 2));
    assert_eq!(known(&ids, 3, &[1]), [true]);
}

#[test]
fn an_id_of_several_messages_leaves_with_the_last() {
    let ids = Mutex::default();
    assert_eq!(known(&ids, 0, &[1]), [false]);
    assert_eq!(known(&ids, WINDOW_MS, &[1]), [false]);
    ids.lock().leave(1);
    assert_eq!(known(&ids, WINDOW_MS + 1, &[1]), [true]);
    ids.lock().leave(1);
    assert_eq!(known(&ids, WINDOW_MS + 1, &[1]), [false], "this window has forgotten it");
}

#[test]
fn an_answer_does_not_count_once_its_id_has_left() {
    let ids = Mutex::default();
    let mut asked = Map::new();
    let asked_of = std::cell::RefCell::new(&mut asked);
    let ask = |place: usize| {
        let mut asked = asked_of.borrow_mut();
        let times: &mut u32 = asked.entry(place).or_insert(0);
        *times += 1;
        if *times == 1 && place == 0 {
            // Between the answer and the lock the id arrives and goes into the window.
            assert_eq!(known(&ids, 0, &[1]), [false]);
            ids.lock().leave(1);
            return None;
        }
        (place == 0).then_some(0)
    };
    let answer = take_in(&ids, 1, &questions(&[1, 2]), ask, <[bool]>::to_vec);
    assert_eq!(answer, [true, false]);
    assert_eq!(asked, Map::from([(0, 2), (1, 1)]), "only what left is asked again");
}

#[test]
fn more_that_left_than_is_remembered_counts_as_all() {
    let ids = Mutex::default();
    let first = std::cell::Cell::new(true);
    let ask = |_: usize| {
        if first.take() {
            let many: Vec<u128> = (10..10 + LEFT_MAX as u128 + 1).collect();
            known(&ids, 0, &many);
            many.iter().for_each(|&key| ids.lock().leave(key));
        }
        None
    };
    assert_eq!(take_in(&ids, 0, &questions(&[1]), ask, <[bool]>::to_vec), [false]);
    assert_eq!(ids.lock().left.len(), LEFT_MAX);
}

/// Two producers with crossed ids and the ledger writer, which follows the log into the window.
fn crossed_producers() {
    let ids: Arc<Shuttled<IdsInFlight>> = Arc::default();
    let log: Arc<Shuttled<Vec<u128>>> = Arc::default();
    let window: Arc<Shuttled<Map<u128, u64>>> = Arc::default();
    let producer = |keys: [u128; 4]| {
        let (ids, log, window) = (ids.clone(), log.clone(), window.clone());
        move || {
            for batch in keys.chunks(2) {
                let ask = |place: usize| window.lock().expect("whole").get(&batch[place]).copied();
                take_in(&*ids, 0, &questions(batch), ask, |known| {
                    let new = batch.iter().zip(known).filter(|(_, known)| !**known);
                    log.lock().expect("whole").extend(new.map(|(key, _)| *key));
                });
            }
        }
    };
    let writer = {
        let (ids, log, window) = (ids.clone(), log.clone(), window.clone());
        move || {
            let mut followed = 0;
            for _ in 0..6 {
                let new: Vec<u128> = log.lock().expect("whole")[followed..].to_vec();
                followed += new.len();
                for key in new {
                    window.lock().expect("whole").insert(key, 0);
                    ids.with(|ids| ids.leave(key));
                }
                shuttle::thread::yield_now();
            }
        }
    };
    let actors = [
        shuttle::thread::spawn(producer([1, 2, 1, 3])),
        shuttle::thread::spawn(producer([2, 1, 3, 1])),
        shuttle::thread::spawn(writer),
    ];
    actors.into_iter().for_each(|actor| actor.join().expect("no actor fails"));
    let mut enqueued = log.lock().expect("whole").clone();
    enqueued.sort_unstable();
    assert_eq!(enqueued, [1, 2, 3], "each id is enqueued once");
}

#[test]
fn crossed_ids_are_enqueued_once_however_producers_and_ledger_meet() {
    shuttle::check_random(crossed_producers, 20_000);
    shuttle::check_pct(crossed_producers, 5_000, 3);
}
