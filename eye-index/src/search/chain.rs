//! How far a unit's events go through steps, one behind the other.
//!
//! What must stay true: the steps are taken by different events in their order, all within the window from the first; of the ways
//! through, the one that gets furthest counts, and of those the one that begins first.

use super::steps::StepEvent;

/// The way of one unit through the steps: the events that took them, in order; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// One event for each step that was reached.
    pub events: Vec<StepEvent>,
}

/// Finds a unit's chain. `events` are in order and of one unit; `begins` says which may take the first step; `within` is in
/// microseconds. `None` when nothing takes the first step.
pub fn chain(
    events: &[StepEvent],
    steps: usize,
    within: i64,
    begins: impl Fn(&StepEvent) -> bool,
) -> Option<Chain> {
    let takes = |event: &StepEvent, step: usize| event.steps >> step & 1 == 1;
    // The latest beginning from which each step was reached: if that is too long ago, every other one is.
    let mut latest: Vec<Option<i64>> = vec![None; steps];
    let mut reached = None;
    for event in events {
        for step in (0..steps).rev().filter(|step| takes(event, *step)) {
            let begun = match step {
                0 => begins(event).then_some(event.timestamp),
                step => latest[step - 1]
                    .filter(|begun| event.timestamp.saturating_sub(*begun) <= within),
            };
            if begun > latest[step] {
                latest[step] = begun;
                reached = reached.max(Some(step));
            }
        }
    }
    let reached = reached?;
    // Where the events of each step stand.
    let places: Vec<Vec<usize>> = (0..=reached)
        .map(|step| {
            (0..events.len())
                .filter(|place| takes(&events[*place], step))
                .collect()
        })
        .collect();
    // From one beginning, the earliest event for every step leaves the most time to the rest.
    places[0]
        .iter()
        .filter(|place| begins(&events[**place]))
        .find_map(|first| {
            let mut way = vec![events[*first]];
            let mut place = *first;
            for of_step in &places[1..] {
                place = *of_step.get(of_step.partition_point(|other| *other <= place))?;
                let event = events[place];
                if event.timestamp.saturating_sub(way[0].timestamp) > within {
                    return None;
                }
                way.push(event);
            }
            Some(Chain { events: way })
        })
}

/// Finds the first event that takes step 0, then the first behind it that takes step 1, within the time, without one that takes
/// step 2 between them. Returns the earliest such pair.
pub fn sequence(
    events: &[StepEvent],
    within: i64,
    begins: impl Fn(&StepEvent) -> bool,
) -> Option<(StepEvent, StepEvent)> {
    // The nearest event behind that takes step 1, and the nearest that takes step 2: from the end on.
    let mut pairs = None;
    let (mut then, mut without) = (None::<StepEvent>, None::<StepEvent>);
    let place = |event: &StepEvent| (event.timestamp, event.offset);
    for event in events.iter().rev() {
        if event.steps & 1 == 1
            && begins(event)
            && let Some(then) = then
            && then.timestamp.saturating_sub(event.timestamp) <= within
            && without.is_none_or(|without| place(&without) >= place(&then))
        {
            pairs = Some((*event, then));
        }
        if event.steps & 2 == 2 {
            then = Some(*event);
        }
        if event.steps & 4 == 4 {
            without = Some(*event);
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small numbers from a seed.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, end: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % end
        }
    }

    fn drawn(dice: &mut Dice, steps: u64) -> Vec<StepEvent> {
        let mut events: Vec<StepEvent> = (0..dice.below(12))
            .map(|offset| StepEvent {
                unit: 1,
                timestamp: i64::try_from(dice.below(9)).unwrap_or(0),
                offset,
                steps: u32::try_from(dice.below(1 << steps)).unwrap_or(0),
            })
            .collect();
        events.sort_unstable_by_key(|event| (event.timestamp, event.offset));
        events
    }

    /// Every way through, tried one by one.
    fn ways(
        events: &[StepEvent],
        from: usize,
        step: usize,
        steps: usize,
        way: &mut Vec<usize>,
        within: i64,
        best: &mut Vec<usize>,
    ) {
        if way.len() > best.len() {
            best.clone_from(way);
        }
        if step == steps {
            return;
        }
        for place in from..events.len() {
            let inside = way
                .first()
                .is_none_or(|first| events[place].timestamp - events[*first].timestamp <= within);
            if events[place].steps >> step & 1 == 1 && inside {
                way.push(place);
                ways(events, place + 1, step + 1, steps, way, within, best);
                way.pop();
            }
        }
    }

    #[test]
    fn the_chain_is_the_one_that_gets_furthest_and_begins_first() {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        for _ in 0..5000 {
            let steps = 2 + dice.below(3);
            let events = drawn(&mut dice, steps);
            let within = i64::try_from(dice.below(6)).unwrap_or(0);
            let steps = usize::try_from(steps).unwrap_or(0);
            let mut best = Vec::new();
            ways(&events, 0, 0, steps, &mut Vec::new(), within, &mut best);
            let found = chain(&events, steps, within, |_| true);
            let found: Vec<u64> = found.map_or_else(Vec::new, |chain| {
                chain.events.iter().map(|event| event.offset).collect()
            });
            assert_eq!(found.len(), best.len(), "{events:?} within {within}");
            // The ways are tried in order, so the first of the longest begins first.
            assert_eq!(
                found.first().copied(),
                best.first().map(|place| events[*place].offset)
            );
        }
    }

    #[test]
    fn a_sequence_has_nothing_between_that_must_not_be() {
        let mut dice = Dice(77);
        for _ in 0..5000 {
            let events = drawn(&mut dice, 3);
            let within = i64::try_from(dice.below(6)).unwrap_or(0);
            let mut expected = None;
            'first: for first in 0..events.len() {
                if events[first].steps & 1 == 0 {
                    continue;
                }
                for then in first + 1..events.len() {
                    let too_late = events[then].timestamp - events[first].timestamp > within;
                    if events[then].steps & 2 == 2 && !too_late {
                        expected = Some((events[first], events[then]));
                        break 'first;
                    }
                    if too_late || events[then].steps & 4 == 4 {
                        break;
                    }
                }
            }
            assert_eq!(
                sequence(&events, within, |_| true),
                expected,
                "{events:?} within {within}"
            );
        }
    }
}
