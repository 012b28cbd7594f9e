//! `bench`: short runs of every workload, what they leave (figures, files, nothing else), and what is
//! refused. No figure is compared with another machine's.

use serde_json::Value;

use crate::support::{Place, Ran, run, thalweg};

/// Each workload with little to do.
const SHORT: [&[&str]; 10] = [
    &["append", "--total", "1MiB", "--rounds", "1", "--verify"],
    &["append", "--total", "1MiB", "--rounds", "2", "--ready-batches", "64KiB,256KiB", "--producers", "2", "--verify"],
    &["durable", "--total", "2000", "--rounds", "1", "--verify"],
    &["group-commit", "--producers", "4", "--total", "4000", "--rounds", "1", "--verify"],
    &["replay", "--total", "300KiB", "--seconds", "0.1", "--rounds", "1", "--verify"],
    &["tail", "--rate", "2k", "--seconds", "0.2", "--rounds", "1", "--verify"],
    &["partitions", "--partitions", "8", "--total", "500KiB", "--rounds", "1", "--verify"],
    &["recover", "--total", "300KiB", "--rounds", "1"],
    &["groups", "--partitions", "12", "--members", "3", "--seconds", "0.2"],
    &["device", "--seconds", "0.2", "--total", "1MiB", "--block-bytes", "64KiB"],
];

fn bench(place: &Place, args: &[&str]) -> Ran {
    place.run(&[&["bench"], args].concat())
}

/// What is left of its directories below the one that it was given.
fn left(place: &Place) -> usize {
    std::fs::read_dir(place.path()).map_or(0, Iterator::count)
}

fn file(place: &Place, name: &str) -> String {
    let path = place.path().with_file_name(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every percentile is there, and none is smaller than one before it.
#[track_caller]
fn check_latencies(latencies: &Value) {
    let names = ["min", "p1", "p50", "p90", "p99", "p99.9", "p99.99", "max"];
    let values: Vec<u64> = names.iter().map(|name| latencies[name].as_u64().unwrap()).collect();
    assert!(values.is_sorted() && values[0] > 0, "{latencies}");
    assert!(latencies["count"].as_u64().unwrap() > 0);
}

#[test]
fn every_workload_alone_gives_figures_beside_a_floor_and_leaves_nothing() {
    for args in SHORT {
        let place = Place::new();
        let result = bench(&place, &[args, &["--json"]].concat()).succeeded().json();
        assert_eq!((&result["format"], &result["partial"]), (&"thalweg bench".into(), &false.into()));
        let rows = result["workloads"].as_array().unwrap();
        assert!(!rows.is_empty(), "{args:?}");
        for row in rows {
            assert_eq!(row["workload"], args[0]);
            let refused =
                row["notes"].as_array().unwrap().iter().any(|note| note.as_str().unwrap().contains("refused"));
            assert!(refused || row["per_s"].as_f64().unwrap() > 0.0, "{row}");
            if args[0] == "device" {
                continue;
            }
            assert!(row["ratio"].as_f64().unwrap() > 0.0, "{row}");
            assert!(row["floors"][0]["per_s"].as_f64().unwrap() > 0.0, "{row}");
            assert!(!row["settings"].as_object().unwrap().is_empty());
            if row["ratio_of"] == "p50" {
                check_latencies(&row["latency_ns"]);
                check_latencies(&row["floors"][0]["latency_ns"]);
            }
        }
        assert_eq!(left(&place), 0, "{args:?}");
    }
}

#[test]
fn the_table_has_a_line_each_and_says_where_it_was_measured() {
    let place = Place::new();
    let ran = bench(&place, &["append", "--total", "200KiB", "--rounds", "1"]).succeeded();
    let text = ran.text();
    let parts = ["workload", "p99.9", "floor", "ratio", "append 100 B, own syncs", "append 100 B, no syncs"];
    for part in parts.into_iter().chain(["page cache are touched", "peak memory", "thalweg 0.", "core"]) {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    // No bar where there is no terminal.
    assert_eq!(ran.stderr, "");
}

/// Appending with the syncs that the engine starts by itself and without, by the call or in batches of each size that
/// was asked for: a row each. Where records wait for a sync, or a rate is given, there is nothing to leave out.
#[test]
fn append_has_a_row_with_own_syncs_and_one_without_for_each_size_of_batches() {
    let rows = |args: &[&str]| {
        let place = Place::new();
        let args =
            [&["append", "--record-size", "1KiB", "--total", "300KiB", "--rounds", "1"], args, &["--json"]].concat();
        let result = bench(&place, &args).succeeded().json();
        let row = |row: &Value| {
            let (settings, text) = (&row["settings"], |value: &Value| value.as_str().unwrap_or_default().to_owned());
            assert_eq!(settings["own_syncs"], !text(&row["variant"]).ends_with("no syncs"), "{row}");
            // No more than two and a half times what a round writes is touched before it.
            assert!(settings["touched_bytes"].as_u64().unwrap() <= 750 << 10, "{row}");
            (text(&row["variant"]), settings["ready_bytes"].as_u64(), text(&row["floors"][0]["name"]))
        };
        result["workloads"].as_array().unwrap().iter().map(row).collect::<Vec<_>>()
    };
    let (synced, unsynced) = ("framing, checksums, pwrite, and syncs", "framing, checksums, pwrite");
    let row = |variant: &str, ready, floor: &str| (variant.to_owned(), ready, floor.to_owned());
    assert_eq!(rows(&[]), [row("1 KiB, own syncs", None, synced), row("1 KiB, no syncs", None, unsynced)]);
    let batches = [
        row("1 KiB in 4 KiB, own syncs", Some(4 << 10), synced),
        row("1 KiB in 4 KiB, no syncs", Some(4 << 10), unsynced),
        row("1 KiB in 1 MiB, own syncs", Some(1 << 20), synced),
        row("1 KiB in 1 MiB, no syncs", Some(1 << 20), unsynced),
    ];
    assert_eq!(rows(&["--ready-batches", "4KiB,1MiB"]), batches);
    assert_eq!(rows(&["--acks", "synced"]), [row("1 KiB, own syncs", None, synced)]);
    assert_eq!(rows(&["--rate", "10k"]), [row("1 KiB, own syncs", None, "")]);
}

/// The times of a record that was seen count from when it was due and from when it was sent, sleeping and polling.
/// None was sent before it was due.
#[test]
fn tail_counts_from_due_and_from_sent_sleeping_and_polling() {
    let place = Place::new();
    let args = ["tail", "--rate", "5k", "--seconds", "0.2", "--rounds", "2", "--consumers", "2", "--verify", "--json"];
    let result = bench(&place, &args).succeeded().json();
    let rows = result["workloads"].as_array().unwrap();
    let variants: Vec<_> = rows.iter().map(|row| row["variant"].as_str().unwrap()).collect();
    let expected = ["from due", "from sent", "polled, from due", "polled, from sent"];
    assert_eq!(variants.len(), expected.len());
    assert!(variants.iter().zip(expected).all(|(variant, end)| variant.ends_with(end)), "{variants:?}");
    for two in rows.chunks(2) {
        for figures in [two.iter().collect::<Vec<_>>(), two.iter().map(|row| &row["floors"][0]).collect()] {
            let of = |at: usize, name: &str| figures[at]["latency_ns"][name].as_u64().unwrap();
            check_latencies(&figures[0]["latency_ns"]);
            check_latencies(&figures[1]["latency_ns"]);
            assert_eq!(of(0, "count"), of(1, "count"));
            assert!(of(0, "mean") >= of(1, "mean") && of(0, "max") >= of(1, "max"), "{two:?}");
        }
    }
}

#[test]
fn a_rate_is_kept_and_its_latencies_are_measured() {
    let place = Place::new();
    let args = ["append", "--rate", "1000", "--total", "20000", "--rounds", "1", "--acks", "synced", "--json"];
    let result = bench(&place, &args).succeeded().json();
    let row = &result["workloads"][0];
    check_latencies(&row["latency_ns"]);
    assert_eq!(row["latency_ns"]["count"], row["count"]);
    // A given rate is not divided by what a floor could do.
    assert_eq!((&row["ratio"], &row["floors"]), (&Value::Null, &serde_json::json!([])));
    // 200 records at a thousand a second are due over 199 ms.
    assert!(row["seconds"].as_f64().unwrap() > 0.19, "{row}");
}

#[test]
fn a_time_limit_ends_the_rounds_of_recover() {
    let place = Place::new();
    let args = ["recover", "--total", "300KiB", "--rounds", "1000", "--seconds", "0.001", "--json"];
    let result = bench(&place, &args).succeeded().json();
    let counts: Vec<_> = result["workloads"].as_array().unwrap().iter().map(|row| row["count"].clone()).collect();
    assert_eq!(counts, [1, 1]);
}

#[test]
fn everything_runs_and_is_written_as_json_and_as_a_page() {
    let place = Place::new();
    let args = ["--seconds", "0.5", "--total", "1MiB", "--json", "r.json", "--html", "r.html"];
    let ran = bench(&place, &args).succeeded();
    let result: Value = serde_json::from_str(&file(&place, "r.json")).unwrap();
    let rows = result["workloads"].as_array().unwrap();
    for workload in SHORT {
        assert!(rows.iter().any(|row| row["workload"] == workload[0]), "no {}", workload[0]);
    }
    for name in [
        "append 100 B, own",
        "append 1 KiB, no",
        "append 1 KiB in 256 KiB, own",
        "group-commit 32 threads",
        "partitions 600",
        "recover killed",
    ] {
        assert!(ran.text().contains(name), "no {name} in {ran:?}");
    }
    let numbers = |of: &str| {
        let points = result["scaling"][of].as_array().unwrap().iter();
        points.map(|point| point["number"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((numbers("producers"), numbers("partitions")), (vec![1, 2, 4], vec![1, 8, 64, 600]));
    for field in ["cpu", "cores", "memory_bytes", "kernel", "file_system", "directory", "thalweg"] {
        assert!(!result["environment"][field].is_null(), "no {field}");
    }
    let page = file(&place, "r.html");
    check_page(&page);
    assert!(page.contains("Scaling"));
    assert_eq!(left(&place), 0);

    // Stages this short may end within one interval: what is shown over time takes a second.
    bench(&place, &["durable", "--seconds", "1", "--rounds", "1", "--html", "d.html"]).succeeded();
    let page = file(&place, "d.html");
    check_page(&page);
    assert!(page.contains("Over time"));

    // A result is as fast as itself.
    let ran = bench(&place, &["compare", "r.json", "r.json", "--json"]).succeeded().json();
    let ratios = ran["ratios"].as_array().unwrap();
    assert_eq!(ratios.len(), rows.len());
    for line in ratios {
        for (name, ratio) in line.as_object().unwrap() {
            assert!(name == "workload" || ratio.is_null() || ratio == 1.0, "{line}");
        }
        assert!(line["rate"] == 1.0 || line["workload"].as_str().unwrap().contains("O_DIRECT"), "{line}");
    }
    let table = bench(&place, &["compare", "r.json", "r.json"]).succeeded();
    assert!(table.text().contains("append 1 KiB, own syncs") && table.text().contains("1.00"), "{table:?}");
}

/// It needs nothing from elsewhere, runs nothing, and every element that is opened is closed.
fn check_page(page: &str) {
    for foreign in ["http", "<script", "<link", "src=", "url(", "@import"] {
        assert!(!page.contains(foreign), "{foreign} in the page");
    }
    for part in ["prefers-color-scheme: dark", "@media print", "<svg", "Times", "Beside the floor"] {
        assert!(page.contains(part), "no {part} in the page");
    }
    let body = &page[page.find("<html").unwrap()..];
    let mut open = Vec::new();
    for tag in body.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap();
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "</{name}>");
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().unwrap());
        }
    }
    assert_eq!(open, Vec::<&str>::new());
}

#[test]
fn an_interrupted_run_prints_what_it_has_and_tidies_up() {
    let place = Place::new();
    let running = place.start(&[
        "bench",
        "append",
        "--seconds",
        "600",
        "--rounds",
        "1",
        // With a rate there is no floor that could come first.
        "--rate",
        "100k",
        "--segment-bytes",
        "1MiB",
    ]);
    // It is at work when its directory has an engine's in it.
    let at_work = || {
        let piece = std::fs::read_dir(place.path()).ok()?.next()?.ok()?.path();
        let engine = std::fs::read_dir(piece).ok()?.next()?.ok()?.path();
        let segment = std::fs::read_dir(engine.join("topics/bench/0")).ok()?.next()?.ok()?;
        Some(segment)
    };
    while at_work().is_none() {
        std::thread::yield_now();
    }
    let pid = running.pid().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let ran = running.finish().failed(130, &["interrupted", "partial"]);
    assert!(ran.text().contains("partial") && ran.text().contains("peak memory"), "{ran:?}");
    assert_eq!(left(&place), 0);
}

#[test]
fn command_lines_that_make_no_sense_are_refused() {
    let place = Place::new();
    for wrong in [
        &["append", "--consumers", "2"][..],
        &["durable", "--producers", "2"],
        &["replay", "--acks", "none"],
        &["groups", "--record-size", "100"],
        &["device", "--driver", "std"],
        &["append", "--record-size", "0"],
        &["append", "--record-size", "9..8"],
        &["append", "--total", "0"],
        &["append", "--seconds", "0"],
        &["append", "--partitions", "0"],
        &["append", "--rate", "0"],
        &["append", "--rate", "1000", "--ready-batches", "64KiB"],
        &["append", "--ready-batches", "0"],
        &["append", "--driver", "floppy"],
        &["device", "--block-bytes", "1000"],
        &["--seconds", "1", "append"],
        &["compare", "one.json", "two.json", "--html", "page.html"],
        &["compare", "one.json"],
        &["swim"],
    ] {
        let ran = bench(&place, wrong);
        assert_eq!(ran.code, Some(2), "{wrong:?}: {ran:?}");
        assert!(ran.stdout.is_empty());
    }
    // Elsewhere --json takes no file.
    assert_eq!(place.run(&["--json=x", "topic", "list"]).code, Some(2));
    assert_eq!(place.run(&["topic", "list", "--report", "x"]).code, Some(2));
    let help = bench(&place, &["--help"]).succeeded();
    assert!(help.text().contains("group-commit") && !help.text().contains("victim"), "{help:?}");
}

#[test]
fn what_compare_cannot_read_is_named() {
    let place = Place::new();
    let write = |name: &str, text: &str| std::fs::write(place.path().with_file_name(name), text).unwrap();
    write("text", "not JSON");
    write("other.json", "{\"format\": \"something else\"}");
    let result = |version: u64, name: &str| {
        let line = format!("{{\"workload\": \"{name}\", \"variant\": \"\", \"per_s\": 1.0}}");
        format!("{{\"format\": \"thalweg bench\", \"version\": {version}, \"workloads\": [{line}]}}")
    };
    write("future.json", &result(99, "append"));
    write("append.json", &result(1, "append"));
    write("tail.json", &result(1, "tail"));
    let compare = |a: &str, b: &str| bench(&place, &["compare", a, b]);
    compare("absent.json", "append.json").failed(1, &["could not read absent.json"]);
    compare("append.json", "text").failed(1, &["text is no result of bench", "isn't JSON"]);
    compare("other.json", "append.json").failed(1, &["other.json is no result of bench"]);
    compare("append.json", "future.json").failed(1, &["future.json", "version"]);
    compare("append.json", "tail.json").failed(1, &["no workload in common"]);
}

#[test]
fn places_that_will_not_do_are_named() {
    let data = Place::with_topic("t", 1);
    bench(&data, &["append", "--total", "1"]).failed(1, &["holds thalweg data", "--dir"]);
    let file = Place::new();
    std::fs::write(file.path(), "a file").unwrap();
    bench(&file, &["append", "--total", "1"]).failed(1, &["could not make the directory"]);
    let place = Place::new();
    bench(&place, &["append", "--total", "1", "--html", "absent/r.html"]).failed(1, &["could not write absent/r.html"]);
    let needed = bench(&place, &["replay", "--total", "1000TiB", "--json"]);
    let ran = needed.failed(1, &["there is no room", "replay needs", "free"]);
    assert!(ran.stdout.is_empty());
    assert_eq!(left(&place), 0);
}

/// In the current directory if none was named; and it goes again.
#[test]
fn without_a_directory_it_works_where_it_stands() {
    let here = tempfile::tempdir().unwrap();
    let mut command = thalweg();
    command.current_dir(here.path()).args(["bench", "durable", "--total", "300", "--rounds", "1"]);
    let ran = run(command, b"").succeeded();
    let canonical = std::fs::canonicalize(here.path()).unwrap();
    assert!(ran.text().contains(&canonical.display().to_string()), "{ran:?}");
    assert_eq!(std::fs::read_dir(here.path()).unwrap().count(), 0);
}
