//! Places against a model that keeps a list and searches all of it.

use proptest::prelude::*;

use super::*;

const DOORS: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    Enter { door: usize, room: usize, address: u8 },
    Know(prop::sample::Index),
    Silence(prop::sample::Index),
    Leave(prop::sample::Index),
    EndLongest,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = any::<prop::sample::Index>;
    let step = prop_oneof![
        4 => (0..DOORS, 0..12_usize, 0..3_u8)
            .prop_map(|(door, room, address)| Step::Enter { door, room, address }),
        2 => index().prop_map(Step::Know),
        2 => index().prop_map(Step::Silence),
        1 => index().prop_map(Step::Leave),
        1 => Just(Step::EndLongest),
    ];
    prop::collection::vec(step, 0..200)
}

/// One place, as simple as can be.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Modelled {
    name: usize,
    door: usize,
    address: u8,
    /// When it fell silent.
    silent_since: Option<usize>,
    is_ended: bool,
}

#[derive(Default)]
struct Model {
    places: Vec<Modelled>,
    maxima: Vec<usize>,
}

impl Model {
    fn count(&self, door: Option<usize>) -> usize {
        let counts = |it: &&Modelled| !it.is_ended && door.is_none_or(|door| it.door == door);
        self.places.iter().filter(counts).count()
    }

    fn end_longest(&mut self, door: Option<usize>, address: Option<u8>) -> Option<usize> {
        let may_end = |it: &&mut Modelled| {
            !it.is_ended
                && it.silent_since.is_some()
                && door.is_none_or(|door| it.door == door)
                && address.is_none_or(|address| it.address == address)
        };
        let longest = self.places.iter_mut().filter(may_end).min_by_key(|it| it.silent_since)?;
        longest.is_ended = true;
        Some(longest.name)
    }

    fn silent_count(&self, door: usize, address: u8) -> usize {
        let counts = |it: &&Modelled| {
            !it.is_ended && it.silent_since.is_some() && (it.door, it.address) == (door, address)
        };
        self.places.iter().filter(counts).count()
    }

    fn enter(&mut self, door: usize, room: usize, address: u8, now: usize) -> (bool, Vec<usize>) {
        let mut ended = Vec::new();
        let half = (self.maxima[door].min(room) / 2).max(1);
        loop {
            let address_has_half = self.silent_count(door, address) >= half;
            let own_is_full = self.count(Some(door)) >= self.maxima[door];
            if !address_has_half && !own_is_full && self.count(None) < room {
                break;
            }
            let of_door = (address_has_half || own_is_full).then_some(door);
            match self.end_longest(of_door, address_has_half.then_some(address)) {
                Some(name) => ended.push(name),
                None => return (false, ended),
            }
        }
        let silent_since = Some(now);
        let place = Modelled { name: now, door, address, silent_since, is_ended: false };
        self.places.push(place);
        (true, ended)
    }
}

fn from(address: u8) -> Address {
    IpAddr::from([10, 0, 0, address]).into()
}

fn check(maxima: [usize; DOORS], steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut places = Places::default();
    let doors = maxima.map(|max| places.add_door(max));
    let mut model = Model { maxima: maxima.to_vec(), ..Model::default() };
    // The places' numbers, by the model's.
    let mut names: Vec<u64> = Vec::new();
    for (now, step) in steps.into_iter().enumerate() {
        let of = |index: prop::sample::Index| (!names.is_empty()).then(|| index.index(names.len()));
        match step {
            Step::Enter { door, room, address } => {
                let entered = places.enter(doors[door], room, from(address), now);
                let (is_in, ended) = model.enter(door, room, address, now);
                prop_assert_eq!(&entered.ended, &ended);
                prop_assert_eq!(entered.place.is_some(), is_in);
                prop_assert_eq!(entered.shortage.is_some(), !is_in || !ended.is_empty());
                if is_in {
                    prop_assert!(model.count(None) <= room);
                    prop_assert!(model.count(Some(door)) <= maxima[door]);
                    let half = (maxima[door].min(room) / 2).max(1);
                    prop_assert!(model.silent_count(door, address) <= half);
                }
                names.extend(entered.place);
            }
            Step::Know(index) => {
                let Some(at) = of(index) else { continue };
                places.make_known(names[at]);
                model.places[at].silent_since = None;
            }
            Step::Silence(index) => {
                let Some(at) = of(index) else { continue };
                places.make_silent(names[at]);
                model.places[at].silent_since.get_or_insert(now);
            }
            Step::Leave(index) => {
                let Some(at) = of(index) else { continue };
                let was_ended = places.leave(names.remove(at));
                prop_assert_eq!(was_ended, model.places.remove(at).is_ended);
            }
            Step::EndLongest => {
                prop_assert_eq!(places.end_longest_silent(None), model.end_longest(None, None));
            }
        }
        prop_assert_eq!(places.count, model.count(None));
        prop_assert_eq!(places.ended_count(), model.places.len() - model.count(None));
        for door in 0..DOORS {
            prop_assert_eq!(places.doors[door].count, model.count(Some(door)));
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn places_are_given_and_taken_as_in_the_model(
        maxima in prop::array::uniform3(0..8_usize),
        steps in steps(),
    ) {
        check(maxima, steps)?;
    }
}

#[test]
fn who_is_known_is_never_ended() {
    let mut places = Places::default();
    let door = places.add_door(2);
    let [first, second] = [(1, "first"), (2, "second")]
        .map(|(address, name)| places.enter(door, 9, from(address), name).place);
    places.make_known(first.expect("room"));
    assert_eq!(places.enter(door, 9, from(3), "third").ended, ["second"]);
    places.make_known(second.expect("room"));
    assert_eq!(places.enter(door, 9, from(4), "fourth").ended, ["third"]);
    places.make_known(first.expect("room"));
    let fourth = places.end_longest_silent(None);
    assert_eq!((fourth, places.end_longest_silent(None)), (Some("fourth"), None));
}

#[test]
fn a_listener_at_its_maximum_ends_its_own_and_a_lack_of_files_anybodys() {
    let mut places = Places::default();
    let (narrow, wide) = (places.add_door(1), places.add_door(10));
    assert!(places.enter(wide, 3, from(1), "old").place.is_some());
    assert!(places.enter(narrow, 3, from(2), "middle").place.is_some());
    let entered = places.enter(narrow, 3, from(3), "new");
    assert_eq!((entered.ended, entered.shortage), (vec!["middle"], Some(Shortage::Connections)));
    assert!(places.enter(wide, 3, from(4), "newer").ended.is_empty());
    let entered = places.enter(wide, 3, from(5), "newest");
    assert_eq!((entered.ended, entered.shortage), (vec!["old"], Some(Shortage::OpenFiles)));
}

#[test]
fn who_comes_from_one_address_makes_way_for_itself_and_others_are_let_in() {
    let mut places = Places::default();
    let door = places.add_door(4);
    let other = places.enter(door, 99, from(2), "other");
    assert!(places.enter(door, 99, from(1), "first").ended.is_empty());
    assert!(places.enter(door, 99, from(1), "second").ended.is_empty());
    for (next, ended) in [("third", "first"), ("fourth", "second")] {
        let entered = places.enter(door, 99, from(1), next);
        assert_eq!((entered.ended, entered.shortage), (vec![ended], Some(Shortage::OfAddress)));
    }
    places.make_known(other.place.expect("room"));
    assert!(places.enter(door, 99, from(3), "somebody else").ended.is_empty());
}

#[test]
fn addresses_of_one_network_are_one() {
    let of = |text: &str| Address::from(text.parse::<IpAddr>().expect("an address"));
    assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::2"));
    assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
}
