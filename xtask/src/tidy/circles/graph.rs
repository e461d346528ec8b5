//! Arrows between names, and the circles in them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Which name uses which. A name that uses itself does not count.
#[derive(Debug, Default)]
pub(super) struct Graph(BTreeMap<String, BTreeSet<String>>);

/// A set of names in which each reaches every other.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Circle {
    /// All of them, in order.
    pub(super) members: Vec<String>,
    /// A way round through some of them; the last is the first again.
    pub(super) round: Vec<String>,
}

impl Graph {
    pub(super) fn add(&mut self, from: &str, to: &str) {
        if from != to {
            self.0.entry(from.to_owned()).or_default().insert(to.to_owned());
        }
    }

    /// The circle with the most members; if there are several, the first.
    pub(super) fn largest_circle(&self) -> Option<Circle> {
        let reached: BTreeMap<&str, BTreeSet<&str>> =
            self.0.keys().map(|from| (from.as_str(), self.reached(from))).collect();
        let circles = reached.iter().map(|(name, from_it)| {
            let returns = |other: &&&str| reached.get(**other).is_some_and(|of| of.contains(name));
            from_it.iter().filter(returns).copied().collect::<Vec<_>>()
        });
        let members = circles.reduce(|a, b| if b.len() > a.len() { b } else { a })?;
        let rounds = members.iter().filter_map(|name| self.round(name));
        let round = rounds.reduce(|a, b| if b.len() > a.len() { b } else { a })?;
        Some(Circle { members: members.into_iter().map(str::to_owned).collect(), round })
    }

    fn next<'g>(&'g self, from: &str) -> impl Iterator<Item = &'g str> {
        self.0.get(from).into_iter().flatten().map(String::as_str)
    }

    /// Everything that can be reached in one step or more.
    fn reached(&self, from: &str) -> BTreeSet<&str> {
        let mut reached = BTreeSet::new();
        let mut to_visit: Vec<_> = self.next(from).collect();
        while let Some(name) = to_visit.pop() {
            if reached.insert(name) {
                to_visit.extend(self.next(name));
            }
        }
        reached
    }

    /// A shortest way from a name back to itself.
    fn round(&self, name: &str) -> Option<Vec<String>> {
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut to_visit = VecDeque::from([name]);
        while let Some(at) = to_visit.pop_front() {
            for next in self.next(at) {
                if next == name {
                    let back = std::iter::successors(Some(at), |at| came_from.get(at).copied());
                    let mut round: Vec<_> = back.map(str::to_owned).collect();
                    round.reverse();
                    round.push(name.to_owned());
                    return Some(round);
                }
                if next != name && !came_from.contains_key(next) {
                    came_from.insert(next, at);
                    to_visit.push_back(next);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circle(arrows: &str) -> Option<(String, String)> {
        let mut graph = Graph::default();
        for (from, to) in arrows.split_whitespace().filter_map(|arrow| arrow.split_once('>')) {
            graph.add(from, to);
        }
        let circle = graph.largest_circle()?;
        Some((circle.members.join(" "), circle.round.join(" ")))
    }

    #[test]
    fn arrows_one_way_make_no_circle() {
        assert_eq!(circle("a>b b>c a>c a>a"), None);
        assert_eq!(circle(""), None);
    }

    #[test]
    fn the_largest_circle_is_found_with_a_way_round() {
        assert_eq!(circle("a>b b>a b>c"), Some(("a b".into(), "a b a".into())));
        assert_eq!(circle("x>y y>x a>b b>c c>a"), Some(("a b c".into(), "a b c a".into())));
        // Two circles that share a member are one.
        assert_eq!(circle("a>b b>a b>c c>b"), Some(("a b c".into(), "a b a".into())));
    }
}
