//! Sample events: visits to an imagined shop, spread over a week, the same for the same number but for their times.

use serde_json::{Value, json};
use uuid::Uuid;

const SECOND: i64 = 1_000_000;
const WEEK: i64 = 7 * 24 * 3600 * SECOND;
/// The latest event is a little before now, so that no clock finds it in the future.
const BEFORE_NOW: i64 = 2 * SECOND;

const PRODUCTS: [(&str, &str, u64); 8] = [
    ("SH-101", "Red shoes", 5990),
    ("SH-102", "Hiking boots", 12900),
    ("BA-201", "Canvas bag", 3450),
    ("HA-301", "Straw hat", 2200),
    ("CO-401", "Rain coat", 8990),
    ("SC-501", "Wool scarf", 2790),
    ("GL-601", "Gloves", 1990),
    ("SO-701", "Striped socks", 790),
];
const SEARCHES: [&str; 6] = [
    "red shoes",
    "warm gloves",
    "rain coat",
    "gift for mum",
    "café apron",
    "size 46 boots",
];
const COUNTRIES: [&str; 6] = ["DE", "FR", "GB", "US", "JP", "BR"];
const DEVICES: [&str; 3] = ["phone", "desktop", "tablet"];
const REFERRERS: [&str; 4] = ["search", "newsletter", "direct", "social"];

/// Draws numbers (SplitMix64, by Sebastiano Vigna).
struct Draw(u64);

impl Draw {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.bits() % end.max(1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        let place = usize::try_from(self.below(items.len() as u64)).unwrap_or(0);
        items[place]
    }
}

/// Returns so many events as lines of JSON, in the order of their times, the last shortly before `now` (microseconds).
pub(super) fn lines(count: u64, now: i64) -> Vec<String> {
    let mut draw = Draw(2021);
    let end = now - BEFORE_NOW;
    let mut events: Vec<(i64, Value)> = Vec::new();
    while (events.len() as u64) < count {
        let ago = i64::try_from(draw.below(WEEK.unsigned_abs())).unwrap_or(0);
        visit(&mut draw, end - ago, end, &mut events);
    }
    events.truncate(usize::try_from(count).unwrap_or(usize::MAX));
    events.sort_by_key(|(at, _)| *at);
    events.iter().map(|(_, event)| event.to_string()).collect()
}

/// One visit: it looks around, perhaps buys, and now and then something breaks.
fn visit(draw: &mut Draw, begin: i64, end: i64, events: &mut Vec<(i64, Value)>) {
    let session = uuid::Builder::from_random_bytes(
        (u128::from(draw.bits()) << 64 | u128::from(draw.bits())).to_be_bytes(),
    )
    .into_uuid();
    let mut visit = Visit {
        session,
        at: begin,
        end,
        events,
    };
    let (country, device) = (draw.pick(&COUNTRIES), draw.pick(&DEVICES));
    let referrer = draw.pick(&REFERRERS);
    visit.add(
        draw,
        "page",
        "view",
        json!({
            "path": "/", "referrer": referrer, "country": country, "device": device,
        }),
    );
    if draw.one_in(3) {
        let results = draw.below(40);
        let text = draw.pick(&SEARCHES);
        visit.add(
            draw,
            "page",
            "search",
            json!({"text": text, "results": results}),
        );
    }
    let (mut cart, mut total) = (Vec::new(), 0);
    for _ in 0..draw.below(6) {
        let (sku, title, cents) = draw.pick(&PRODUCTS);
        let load = 20 + draw.below(400);
        visit.add(draw, "page", "view", json!({
            "path": format!("/products/{sku}"), "product": {"sku": sku, "title": title}, "load_ms": load,
        }));
        if draw.one_in(3) {
            cart.push(json!({"sku": sku, "price": euros(cents)}));
            total += cents;
            visit.add(
                draw,
                "cart",
                "add",
                json!({"sku": sku, "title": title, "price": euros(cents)}),
            );
        }
    }
    if draw.one_in(25) {
        let status = draw.pick(&[404, 500, 502, 503]);
        visit.add(
            draw,
            "error",
            "request failed",
            json!({
                "path": "/api/cart", "status": status, "message": "the cart could not be saved",
            }),
        );
    }
    if cart.is_empty() || draw.one_in(2) {
        return;
    }
    visit.add(
        draw,
        "checkout",
        "started",
        json!({"items": cart.len(), "total": euros(total)}),
    );
    if draw.one_in(4) {
        visit.add(
            draw,
            "checkout",
            "payment declined",
            json!({"method": "card", "total": euros(total)}),
        );
        return;
    }
    let method = draw.pick(&["card", "transfer", "wallet"]);
    visit.add(draw, "order", "paid", json!({
        "items": cart, "total": euros(total), "currency": "EUR", "method": method, "country": country,
    }));
}

struct Visit<'a> {
    session: Uuid,
    at: i64,
    end: i64,
    events: &'a mut Vec<(i64, Value)>,
}

impl Visit<'_> {
    /// Adds an event, and lets a few seconds pass. What would come after the end has not happened yet.
    fn add(&mut self, draw: &mut Draw, category: &str, name: &str, data: Value) {
        if self.at <= self.end {
            let event = json!({
                "session_id": self.session, "category": category, "name": name,
                "timestamp": eye_log::format_timestamp(self.at), "data": data,
            });
            self.events.push((self.at, event));
        }
        self.at += SECOND + i64::try_from(draw.below(60_000_000)).unwrap_or(0);
    }
}

fn euros(cents: u64) -> f64 {
    cents as f64 / 100.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_sample_has_its_number_of_events_in_order_and_none_in_the_future() {
        let now = 1_700_000_000_000_000;
        let lines = lines(3000, now);
        assert_eq!(lines.len(), 3000);
        let times: Vec<String> = lines
            .iter()
            .map(|line| {
                let event: Value = serde_json::from_str(line).unwrap();
                event["timestamp"].as_str().unwrap().to_owned()
            })
            .collect();
        assert!(times.is_sorted());
        assert!(*times.last().unwrap() < eye_log::format_timestamp(now));
        assert!(times[0] >= eye_log::format_timestamp(now - WEEK - BEFORE_NOW));
    }
}
