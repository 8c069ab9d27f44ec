//! Real files in a directory of their own; every wait has a deadline far beyond what is needed.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use notify::event::{CreateKind, DataChange, MetadataKind, ModifyKind, RemoveKind, RenameMode};
use tempfile::TempDir;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// Only events can wake this soon.
const BY_EVENT: Pace =
    Pace { quiet: Duration::from_millis(20), storm: Duration::from_millis(200), look: HOUR };

/// Looks often enough for a test.
const BY_LOOK: Pace = Pace { look: Duration::from_millis(50), ..BY_EVENT };

struct Scene {
    root: TempDir,
    policies: PathBuf,
}

impl Scene {
    /// A root with a directory `policies` and a policy `a.yaml` in it.
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let policies = root.path().join("policies");
        fs::create_dir(&policies).unwrap();
        fs::write(policies.join("a.yaml"), "one").unwrap();
        Self { root, policies }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.policies.join(name)
    }
}

async fn woken(watch: &mut Watch, what: &str) {
    let wait = tokio::time::timeout(Duration::from_secs(30), watch.changed());
    wait.await.unwrap_or_else(|_| panic!("not woken: {what}"));
}

#[tokio::test]
async fn every_way_to_edit_wakes() {
    let scene = Scene::new();
    let mut watch = watch_at(&scene.policies, BY_EVENT).unwrap();
    let a = scene.file("a.yaml");

    fs::write(&a, "two").unwrap();
    woken(&mut watch, "written in place").await;

    fs::write(scene.file(".a.new"), "three").unwrap();
    fs::rename(scene.file(".a.new"), &a).unwrap();
    woken(&mut watch, "replaced by rename").await;

    fs::rename(&a, scene.file("a.yaml~")).unwrap();
    fs::write(&a, "four").unwrap();
    fs::remove_file(scene.file("a.yaml~")).unwrap();
    woken(&mut watch, "saved as vim does").await;

    fs::write(scene.file("b.yml"), "").unwrap();
    woken(&mut watch, "a drop-in").await;
    fs::remove_file(scene.file("b.yml")).unwrap();
    woken(&mut watch, "a drop-in removed").await;
    fs::write(&a, "five").unwrap();
    woken(&mut watch, "still awake after all that").await;
}

#[tokio::test]
async fn a_config_map_swap_wakes() {
    let root = tempfile::tempdir().unwrap();
    let volume = |version: &str| {
        fs::create_dir(root.path().join(version)).unwrap();
        fs::write(root.path().join(version).join("www.yaml"), version).unwrap();
    };
    volume("..2024_1");
    symlink("..2024_1", root.path().join("..data")).unwrap();
    symlink("..data/www.yaml", root.path().join("www.yaml")).unwrap();
    let mut watch = watch_at(root.path(), BY_EVENT).unwrap();
    for (old, new) in [("..2024_1", "..2024_2"), ("..2024_2", "..2024_3")] {
        volume(new);
        symlink(new, root.path().join("..data_tmp")).unwrap();
        fs::rename(root.path().join("..data_tmp"), root.path().join("..data")).unwrap();
        fs::remove_dir_all(root.path().join(old)).unwrap();
        woken(&mut watch, new).await;
    }
}

#[tokio::test]
async fn a_directory_made_anew_is_watched_again() {
    let scene = Scene::new();
    let mut watch = watch_at(&scene.policies, BY_EVENT).unwrap();
    for round in 0..3 {
        fs::remove_dir_all(&scene.policies).unwrap();
        woken(&mut watch, "removed").await;
        fs::create_dir(&scene.policies).unwrap();
        fs::write(scene.file("a.yaml"), format!("round {round}")).unwrap();
        woken(&mut watch, "made anew").await;
    }
    fs::write(scene.file("a.yaml"), "edited").unwrap();
    woken(&mut watch, "edited after that").await;
}

#[tokio::test]
async fn a_swapped_symlink_to_a_directory_is_followed() {
    let root = tempfile::tempdir().unwrap();
    for release in ["r1", "r2"] {
        fs::create_dir(root.path().join(release)).unwrap();
        fs::write(root.path().join(release).join("a.yaml"), release).unwrap();
    }
    let current = root.path().join("current");
    symlink("r1", &current).unwrap();
    let mut watch = watch_at(&current, BY_EVENT).unwrap();
    symlink("r2", root.path().join("next")).unwrap();
    fs::rename(root.path().join("next"), &current).unwrap();
    woken(&mut watch, "swapped").await;
    fs::write(root.path().join("r2/a.yaml"), "edited").unwrap();
    woken(&mut watch, "edited behind the new link").await;
}

#[tokio::test]
async fn what_raises_no_event_is_found_by_looking() {
    let scene = Scene::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("target");
    fs::write(&target, "one").unwrap();
    symlink(&target, scene.file("linked.yaml")).unwrap();
    let mut watch = watch_at(&scene.policies, BY_LOOK).unwrap();
    fs::write(&target, "another").unwrap();
    woken(&mut watch, "the target of a link").await;
}

#[tokio::test]
async fn a_path_that_does_not_exist_yet() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("deep/policies");
    let mut watch = watch_at(&path, BY_LOOK).unwrap();
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("a.yaml"), "one").unwrap();
    woken(&mut watch, "made").await;
}

#[tokio::test]
async fn a_single_file_is_watched_through_its_directory() {
    let scene = Scene::new();
    let mut watch = watch_at(&scene.file("a.yaml"), BY_EVENT).unwrap();
    for round in 0..3 {
        fs::write(scene.file("new"), format!("round {round}")).unwrap();
        fs::rename(scene.file("new"), scene.file("a.yaml")).unwrap();
        woken(&mut watch, "replaced").await;
    }
}

#[tokio::test]
async fn changes_while_nobody_waits_are_kept_as_one() {
    let scene = Scene::new();
    let mut watch = watch_at(&scene.policies, BY_EVENT).unwrap();
    fs::write(scene.file("b.yaml"), "one").unwrap();
    // Given up many times before the wake: it must not get lost with one of them.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        assert!(tokio::time::Instant::now() < deadline, "the wake was lost");
        tokio::select! {
            biased;
            () = watch.changed() => break,
            () = tokio::time::sleep(Duration::from_millis(1)) => {}
        }
    }
}

#[tokio::test]
async fn an_endless_storm_cannot_keep_it_asleep() {
    let scene = Scene::new();
    let mut watch = watch_at(&scene.policies, BY_EVENT).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, path) = (stop.clone(), scene.file("a.yaml"));
    let storm = thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            fs::write(&path, "again").unwrap();
        }
    });
    woken(&mut watch, "in a storm").await;
    stop.store(true, Ordering::Relaxed);
    storm.join().unwrap();
}

#[test]
fn what_events_mean() {
    let scene = Scene::new();
    let of_directory = Scope::new(&scene.policies);
    let of_file = Scope::new(&scene.file("a.yaml"));
    let written = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));
    let chmod = EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any));
    let created = EventKind::Create(CreateKind::File);
    let removed = EventKind::Remove(RemoveKind::Folder);
    let opened = EventKind::Access(AccessKind::Open(AccessMode::Any));
    let read = EventKind::Access(AccessKind::Close(AccessMode::Read));
    let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
    use Signal::{Directory, Hint, Policy};
    for (kind, name, in_directory, as_file) in [
        (written, "a.yaml", Some(Policy), Some(Policy)),
        (renamed, "a.yaml", Some(Policy), Some(Policy)),
        (chmod, "a.yaml", Some(Policy), Some(Policy)),
        (closed, "a.yaml", Some(Policy), Some(Policy)),
        (created, "b.yml", Some(Policy), None),
        (renamed, "..data", Some(Hint), Some(Hint)),
        (removed, "", Some(Directory), Some(Directory)),
        (created, "", Some(Directory), Some(Directory)),
        (opened, "a.yaml", None, None),
        (read, "a.yaml", None, None),
        (opened, "", None, None),
        (created, ".a.yaml.swp", None, None),
        (created, "4913", None, None),
        (written, "a.yaml~", None, None),
        (created, "../other", None, None),
    ] {
        let path = if name.is_empty() { scene.policies.clone() } else { scene.file(name) };
        let path = match name.strip_prefix("../") {
            Some(name) => scene.root.path().join(name),
            None => path,
        };
        let event = Event::new(kind).add_path(path);
        assert_eq!(of_directory.signal(&event), in_directory, "{kind:?} {name}");
        assert_eq!(of_file.signal(&event), as_file, "{kind:?} {name} for a file");
    }
    let overflow = Event::new(EventKind::Other);
    assert_eq!(of_directory.signal(&overflow), Some(Hint));
}

#[test]
fn an_empty_path_cannot_be_watched() {
    let error = watch(Path::new("")).unwrap_err();
    assert_eq!(error.to_string(), "cannot watch ");
}

#[tokio::test]
async fn files_that_policies_name_are_looked_at() {
    let scene = Scene::new();
    let elsewhere = scene.root.path().join("tls");
    fs::create_dir(&elsewhere).unwrap();
    let (pem, link) = (elsewhere.join("ca.pem"), elsewhere.join("link"));
    let mut watch = watch_at(&scene.policies, BY_LOOK).unwrap();
    let named = || BTreeSet::from([pem.clone(), link.clone()]);

    watch.named(named());
    woken(&mut watch, "files that were not looked at before").await;
    fs::write(&pem, "one").unwrap();
    woken(&mut watch, "one that was not there").await;
    watch.named(named());
    fs::write(elsewhere.join("new"), "two").unwrap();
    fs::rename(elsewhere.join("new"), &pem).unwrap();
    woken(&mut watch, "one replaced by rename").await;
    symlink(&pem, &link).unwrap();
    woken(&mut watch, "a link").await;
    fs::write(&pem, "three").unwrap();
    woken(&mut watch, "what is behind the link").await;
    fs::remove_file(&pem).unwrap();
    woken(&mut watch, "one that is gone").await;

    watch.named(BTreeSet::new());
    woken(&mut watch, "none any more").await;
}
