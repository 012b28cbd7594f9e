//! A directory in which a file system or a desktop left something is as good as an empty one; one that is used for
//! something else is not.

use thalweg::{Engine, ErrorKind};

use crate::support::{ignored, send};

#[test]
fn a_fresh_volume_becomes_a_data_directory() {
    for name in ["lost+found", ".snapshot", ".DS_Store", ".Trash-1000", ".gitkeep", "System Volume Information"] {
        for is_directory in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(name);
            if is_directory { std::fs::create_dir(&path) } else { std::fs::write(&path, "") }.unwrap();
            let (engine, events) = crate::support::engine(dir.path());
            send(&engine, "t", 0..3).unwrap();
            engine.close().unwrap();
            let (engine, _) = crate::support::engine(dir.path());
            assert_eq!(crate::support::numbers(&engine, "t"), [0, 1, 2], "{name}");
            assert!(path.exists(), "{name}");
            assert!(ignored(&events).is_empty(), "{name}");
        }
    }
}

#[test]
fn a_directory_that_holds_something_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("letter.txt"), "dear").unwrap();
    let error = Engine::open(dir.path()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NotThalweg { .. }), "{error}");
    assert!(error.to_string().contains("letter.txt"), "{error}");
    assert_eq!(crate::support::below(dir.path()).len(), 1);
}

/// The same where the topics' directory is a volume of its own.
#[test]
fn what_lies_beside_topics_stays() {
    let dir = tempfile::tempdir().unwrap();
    crate::support::engine(dir.path()).0.close().unwrap();
    for name in ["lost+found", ".snapshot", "photos", "photos/2024"] {
        std::fs::create_dir(dir.path().join("topics").join(name)).unwrap();
    }
    let (engine, events) = crate::support::engine(dir.path());
    engine.close().unwrap();
    for name in ["lost+found", ".snapshot", "photos", "photos/2024"] {
        assert!(dir.path().join("topics").join(name).is_dir(), "{name}");
    }
    assert_eq!(ignored(&events).len(), 3, "{:?}", ignored(&events));
}
