//! Shards of neighbouring segments become one, before a crash, after it, and where it is lost.

use super::*;

#[test]
fn merged_shards_answer_as_their_segments_did_and_are_opened_again() {
    const NUMBER: usize = 6_000;
    let send = |store: &Store, from: usize| {
        let data: Vec<(String, String)> = (from..from + NUMBER)
            .map(|number| {
                // Later ones are not newer: the order of the log is not that of time.
                let time = format!(
                    "2021-01-{:02} 00:{:02}:00",
                    1 + number * 7 % 28,
                    number % 60
                );
                let word = ["red", "green", "blue"][number % 3];
                (
                    time,
                    format!(r#"{{"text":"{word} word{number}","n":{}}}"#, number % 50),
                )
            })
            .collect();
        let events: Vec<_> = data
            .iter()
            .enumerate()
            .map(|(number, (time, data))| (number as u128 % 90, "a", time.as_str(), data.as_str()))
            .collect();
        events.chunks(100).for_each(|events| store.send(events));
    };
    let answers = |store: &Store| {
        let mut all = Vec::new();
        for q in [
            "red",
            "\"green word4\"",
            "n:7",
            "blue n:>40",
            "word17*",
            "*",
        ] {
            for order in [Order::NewestFirst, Order::OldestFirst, Order::BySession] {
                let request = store.request(q, order, 500);
                let hits = store.index.search(&request).unwrap().hits;
                assert!(!hits.is_empty(), "{q}");
                let offsets: Vec<Offset> = hits.iter().map(|hit| hit.offset).collect();
                all.push((offsets, store.index.count(&request).unwrap()));
            }
            let request = store.request(q, Order::NewestFirst, 0);
            let patience = Duration::from_secs(20);
            let (found, _) = store
                .index
                .in_log_order(&request, 0, usize::MAX, patience)
                .unwrap();
            all.push((found, 0));
        }
        all
    };
    let parts = |store: &Store| store.index.inner.shards.parts().len();
    let shards = |folder: &Path| names_in(&folder.join("index/shards"));
    let closed = |store: Store| {
        store.index.close();
        store.log.close();
        store.folder
    };

    // Sealed, one by one.
    let store = open_with(tempfile::tempdir().unwrap(), 64 << 10);
    send(&store, 0);
    let before = answers(&store);
    while store.index.status().sealing > 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let segments = store.log.reader().segment_bases().len();
    assert!(segments > 12, "{segments}");
    let folder = closed(store);
    let unmerged = tempfile::tempdir().unwrap();
    for name in shards(folder.path()) {
        copy_folder(
            &folder.path().join("index/shards").join(&name),
            &unmerged.path().join(name),
        );
    }

    let store = open_merging(folder, 64 << 10, 4);
    for _ in 0..600 {
        if shards(store.folder.path()).len() <= segments / 3 {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(
        parts(&store) <= segments / 3,
        "{} of {segments}",
        parts(&store)
    );
    assert!(answers(&store) == before);
    // It goes on behind them.
    send(&store, NUMBER);
    let more = answers(&store);
    let folder = closed(store);

    // What was not removed before a crash, and what a merge left that was broken off.
    let there = shards(folder.path());
    for name in names_in(unmerged.path()) {
        let path = folder.path().join("index/shards").join(&name);
        if !path.exists() {
            copy_folder(&unmerged.path().join(&name), &path);
        }
    }
    let left = folder.path().join("index/shards/00000000000000000000-9");
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("meta.json"), b"{").unwrap();
    assert!(shards(folder.path()).len() > there.len());
    let store = open_with(folder, 64 << 10);
    assert_eq!(shards(store.folder.path()), there);
    assert!(answers(&store) == more);

    // Without them everything grows back.
    let folder = closed(store);
    std::fs::remove_dir_all(folder.path().join("index/shards").join(&there[0])).unwrap();
    let store = open_with(folder, 64 << 10);
    assert!(answers(&store) == more);
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for name in names_in(from) {
        std::fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}
