//! Web events in the shape and proportions of `shared/bench/web_events.py`: Zipf paths and words, sessions interleaved in
//! time order over 30 days, page views, clicks, scrolls, forms, searches, errors. The words are made up, so that nothing
//! but the seed is needed; figures quoted beside the peers' come from the original file.

use std::f64::consts::TAU;
use std::fmt::Write;
use support::{Random, time};

/// The seed of the events where none is named, as in the original.
pub(crate) const SEED: u64 = 42;
/// 2021-01-01T00:00:00Z in microseconds.
const BEGINNING: i64 = 1_609_459_200_000_000;
const DAY_SECONDS: f64 = 86_400.0;
const DAYS: f64 = 30.0;
/// As many words as the original's list has of plain lower-case ones.
const WORDS: usize = 70_000;
const PATHS: usize = 6_000;
const USER_AGENTS: u64 = 400;

const COMMON: &str = "the and to of a in is it you that for on was with as have but be they not at this my from or we an are can had by their what all your when said there use how if will up other about out many then them so some her would make like him into time has look two more write go see number no way could people than first been call who its now find long down day did get come made may part";
const TOPICS: &str = "solar-energy home-warranty moving-companies hearing-aids medical-alert-systems mattress auto-warranty identity-theft credit-repair debt-consolidation walk-in-tubs gold-dealers window-replacement gutter-guards pet-insurance life-insurance online-dating vpn security-systems meal-delivery";
const ELEMENTS: [&str; 12] = [
    "chat bubble",
    "get quote button",
    "compare now",
    "hero banner",
    "sticky footer",
    "read more link",
    "call button",
    "star rating",
    "newsletter popup",
    "nav menu",
    "related article card",
    "video thumbnail",
];
/// Category, name, share in percent.
const KINDS: [(&str, &str, u64); 8] = [
    ("page interaction", "pageview", 50),
    ("page interaction", "cta click", 17),
    ("page interaction", "scroll depth", 10),
    ("form interaction", "submit", 6),
    ("form interaction", "field change", 6),
    ("site search", "search", 5),
    ("media", "video play", 3),
    ("client error", "javascript error", 3),
];
const VIEWPORTS: [&str; 6] = [
    "1920x1080",
    "1366x768",
    "390x844",
    "414x896",
    "1536x864",
    "2560x1440",
];
const REFERRERS: [&str; 8] = [
    "",
    "https://www.google.com/",
    "https://www.bing.com/",
    "https://duckduckgo.com/",
    "https://t.co/%",
    "https://www.facebook.com/",
    "https://news.ycombinator.com/",
    "https://www.google.com/search?q=%+%",
];
const FIELDS: [&str; 6] = [
    "first_name",
    "last_name",
    "email",
    "zip",
    "phone",
    "message",
];

/// Returns `count` events of a seed, a line each.
pub(crate) fn text(count: usize, seed: u64) -> Vec<u8> {
    let mut site = Site::new(Random::new(seed));
    let mut visits: Vec<Visit> = Vec::new();
    let mut steps: Vec<(f64, u32, bool)> = Vec::with_capacity(count);
    while steps.len() < count {
        let visit = u32::try_from(visits.len()).expect("fewer visits than 2^32");
        visits.push(site.visit());
        let mut at = site.beginning();
        for step in 0..site.length() {
            if steps.len() < count {
                steps.push((at, visit, step == 0));
                at += site.exponential(25.0);
            }
        }
    }
    steps.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut text = String::with_capacity(count * 480);
    for (at, visit, is_first) in steps {
        site.write_event(&mut text, at, &mut visits[visit as usize], is_first);
    }
    text.into_bytes()
}

struct Visit {
    session: String,
    host: &'static str,
    user_agent: usize,
    viewport: &'static str,
    language: &'static str,
    path: usize,
    referrer: String,
}

struct Site {
    random: Random,
    words: Vec<String>,
    frequent_words: Zipf,
    paths: Vec<String>,
    frequent_paths: Zipf,
    user_agents: Vec<String>,
    frequent_user_agents: Zipf,
}

impl Site {
    fn new(mut random: Random) -> Site {
        let mut words: Vec<String> = COMMON.split(' ').map(str::to_owned).collect();
        words.extend((words.len()..WORDS).map(|_| made_up_word(&mut random)));
        let frequent_words = Zipf::new(words.len(), 1.05);
        let topics: Vec<&str> = TOPICS.split(' ').collect();
        let mut paths = vec!["/".to_owned()];
        paths.extend(topics.iter().map(|topic| format!("/{topic}/")));
        for number in 0..PATHS {
            let topic = *random.pick(&topics);
            let rare = &words[100 + random.index(40_000)];
            paths.push(if number % 3 == 0 {
                format!("/{topic}/{rare}/")
            } else {
                format!(
                    "/{topic}/{}-{rare}.html",
                    words[100 + frequent_words.draw(&mut random) % 40_000]
                )
            });
        }
        let user_agents: Vec<String> = (0..USER_AGENTS).map(|_| user_agent(&mut random)).collect();
        let frequent_paths = Zipf::new(paths.len(), 1.0);
        let frequent_user_agents = Zipf::new(user_agents.len(), 1.0);
        Site {
            random,
            words,
            frequent_words,
            paths,
            frequent_paths,
            user_agents,
            frequent_user_agents,
        }
    }

    fn visit(&mut self) -> Visit {
        let hosts = [
            ("www.consumeraffairs.com", 16),
            ("m.consumeraffairs.com", 3),
            ("research.consumeraffairs.com", 1),
        ];
        let languages = [("en-US", 8), ("es-US", 1), ("fr-CA", 1), ("en-GB", 1)];
        Visit {
            session: self.random.uuid(),
            host: weighted(&mut self.random, &hosts),
            user_agent: self.frequent_user_agents.draw(&mut self.random),
            viewport: self.random.pick::<&str>(&VIEWPORTS),
            language: weighted(&mut self.random, &languages),
            path: 0,
            referrer: String::new(),
        }
    }

    /// When a visit begins: more often by day than by night.
    fn beginning(&mut self) -> f64 {
        loop {
            let at = self.random.fraction() * DAYS * DAY_SECONDS;
            let of_day = at % DAY_SECONDS / DAY_SECONDS;
            if self.random.fraction() < 0.35 + 0.65 * (0.5 - 0.5 * (TAU * (of_day - 0.125)).cos()) {
                return at;
            }
        }
    }

    fn length(&mut self) -> u64 {
        if self.random.one_in(500) {
            return 100 + self.random.below(301);
        }
        (1 + self.exponential(7.0) as u64).min(120)
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -(1.0 - self.random.fraction()).ln() * mean
    }

    /// Box and Muller's way to the normal distribution.
    fn load_time(&mut self) -> u64 {
        let normal = (-2.0 * (1.0 - self.random.fraction()).ln()).sqrt()
            * (TAU * self.random.fraction()).cos();
        (6.5 + 0.6 * normal).exp() as u64
    }

    fn word(&mut self) -> &str {
        &self.words[self.frequent_words.draw(&mut self.random)]
    }

    fn sentence(&mut self, least: u64, most: u64) -> String {
        let mut sentence = String::new();
        for _ in 0..least + self.random.below(most - least + 1) {
            sentence.push_str(self.word());
            sentence.push(' ');
        }
        sentence.pop();
        sentence
    }

    fn capitalized(&mut self, from: usize, to: usize) -> String {
        let word = &self.words[from + self.random.index(to - from)];
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    }

    fn write_event(&mut self, text: &mut String, at: f64, visit: &mut Visit, is_first: bool) {
        if is_first {
            visit.referrer = (*self.random.pick(&REFERRERS)).to_owned();
            while visit.referrer.contains('%') {
                let word =
                    self.words[100 + self.frequent_words.draw(&mut self.random) % 3_000].clone();
                visit.referrer = visit.referrer.replacen('%', &word, 1);
            }
            visit.path = self.frequent_paths.draw(&mut self.random);
        } else if self.random.below(10) < 4 {
            visit.referrer = format!("https://{}{}", visit.host, self.paths[visit.path]);
            visit.path = self.frequent_paths.draw(&mut self.random);
        }
        let kind = if is_first { 0 } else { self.random.below(100) };
        let mut below = 0;
        let &(category, name, _) = KINDS
            .iter()
            .find(|(_, _, share)| {
                below += share;
                kind < below
            })
            .expect("the shares add up to 100");
        let data = self.data(name, visit);
        let timestamp = time::utc(BEGINNING + (at * 1e6) as i64).replace('T', " ");
        writeln!(
            text,
            r#"{{"session_id":"{}","category":"{category}","name":"{name}","data":{{{data}}},"timestamp":"{}"}}"#,
            visit.session,
            timestamp.trim_end_matches('Z')
        )
        .expect("a string takes everything");
    }

    fn data(&mut self, name: &str, visit: &Visit) -> String {
        let user_agent = &self.user_agents[visit.user_agent];
        let mut data = format!(
            r#""host":"{}","path":"{}","#,
            visit.host, self.paths[visit.path]
        );
        if matches!(name, "pageview" | "submit" | "javascript error") {
            data += &format!(
                r#""referrer":"{}","user_agent":"{user_agent}","viewport":"{}","lang":"{}","#,
                visit.referrer, visit.viewport, visit.language
            );
        } else {
            let system = user_agent
                .split(' ')
                .nth(1)
                .unwrap_or_default()
                .trim_start_matches('(')
                .trim_end_matches(';');
            data += &format!(r#""browser":"{system}","referrer":"{}","#, visit.referrer);
        }
        let own = match name {
            "cta click" => {
                let element = *self.random.pick(&ELEMENTS);
                format!(
                    r#""element":"{element}","x":{},"y":{}"#,
                    self.random.below(1920),
                    self.random.below(6000)
                )
            }
            "pageview" => format!(
                r#""load_ms":{},"title":"{}""#,
                self.load_time(),
                self.sentence(3, 8)
            ),
            "scroll depth" => format!(r#""percent":{}"#, self.random.pick(&[25, 50, 75, 90, 100])),
            "submit" => {
                let (first, last) = (self.capitalized(200, 1_400), self.capitalized(1_400, 5_400));
                let mail = format!("{first}.{last}@example.com").to_lowercase();
                let zip = self.random.below(100_000);
                let message = self.sentence(8, 45);
                format!(
                    r#""form":{{"first_name":"{first}","last_name":"{last}","email":"{mail}","zip":"{zip:05}","message":"{message}"}}"#
                )
            }
            "field change" => format!(
                r#""field":"{}","chars":{}"#,
                self.random.pick(&FIELDS),
                1 + self.random.below(79)
            ),
            "search" => format!(
                r#""query":"{}","results":{}"#,
                self.sentence(1, 5),
                self.random.below(200)
            ),
            "video play" => {
                let seconds = self.random.below(30_000);
                format!(
                    r#""video_id":"{:08x}","position_s":{}.{:02}"#,
                    self.random.below(1 << 32),
                    seconds / 100,
                    seconds % 100
                )
            }
            _ => {
                let (property, function) = (self.word().to_owned(), self.word().to_owned());
                format!(
                    r#""error":"TypeError: Cannot read property {property} of undefined","stack":"at {function} (app.{:06x}.js:{}:{})""#,
                    self.random.below(40),
                    1 + self.random.below(899),
                    1 + self.random.below(199)
                )
            }
        };
        data + &own
    }
}

/// Draws places, the n-th with a weight of 1/n^s.
struct Zipf {
    cumulated: Vec<f64>,
}

impl Zipf {
    fn new(places: usize, exponent: f64) -> Zipf {
        let mut sum = 0.0;
        let weights = (1..=places).map(|place| {
            sum += (place as f64).powf(-exponent);
            sum
        });
        Zipf {
            cumulated: weights.collect(),
        }
    }

    fn draw(&self, random: &mut Random) -> usize {
        let wanted = random.fraction() * self.cumulated[self.cumulated.len() - 1];
        self.cumulated.partition_point(|&sum| sum < wanted)
    }
}

fn weighted(random: &mut Random, choices: &[(&'static str, u64)]) -> &'static str {
    let mut wanted = random.below(choices.iter().map(|(_, weight)| weight).sum());
    for (choice, weight) in choices {
        if wanted < *weight {
            return choice;
        }
        wanted -= weight;
    }
    unreachable!("the weights cover what is drawn")
}

/// Two to five syllables, about as long as English words are.
fn made_up_word(random: &mut Random) -> String {
    const SYLLABLES: [&str; 32] = [
        "ba", "con", "dis", "er", "fal", "gen", "hi", "in", "jor", "ka", "lu", "men", "no", "or",
        "per", "qui", "re", "sta", "ti", "un", "ver", "wil", "xa", "yo", "zen", "pre", "tion",
        "ly", "ment", "able", "gra", "sho",
    ];
    (0..2 + random.below(4))
        .map(|_| *random.pick(&SYLLABLES))
        .collect()
}

fn user_agent(random: &mut Random) -> String {
    let chrome = |random: &mut Random| {
        format!(
            "Chrome/{}.0.{}.{}",
            80 + random.below(9),
            3_900 + random.below(500),
            40 + random.below(160)
        )
    };
    match random.below(100) {
        0..45 => format!(
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) {} Safari/537.36",
            chrome(random)
        ),
        45..75 => format!(
            "Mozilla/5.0 (iPhone; CPU iPhone OS 14_{} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/14.0.{} Mobile/15E148 Safari/604.1",
            random.below(5),
            random.below(4)
        ),
        75..90 => format!(
            "Mozilla/5.0 (Linux; Android {}; SM-G{}) AppleWebKit/537.36 (KHTML, like Gecko) {} Mobile Safari/537.36",
            8 + random.below(4),
            900 + random.below(99),
            chrome(random)
        ),
        _ => {
            let version = 70 + random.below(16);
            format!(
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:{version}.0) Gecko/20100101 Firefox/{version}.0"
            )
        }
    }
}
