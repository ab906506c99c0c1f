//! The documentation says what the program does: settings, methods, links.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use hotad_models::config::{Affects, Declared, Setting, Settings};
use hotad_models::distill;
use hotad_models::methods;
use toml::{Table, Value};

/// Most lines of a method's page.
const PAGE: usize = 60;

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Which values a setting may have; nothing where its help lists words.
fn values(setting: &Setting, default: &Value) -> String {
    let kind = match default {
        Value::Integer(_) => "integer",
        Value::Float(_) => "number",
        Value::Boolean(_) => "true or false",
        Value::Array(_) => "list",
        _ => "",
    };
    let words = [kind, setting.allowed.as_deref().unwrap_or_default()];
    words.into_iter().filter(|w| !w.is_empty()).collect::<Vec<_>>().join(", ")
}

/// One table of docs/settings.md.
fn table(declared: &[Setting], defaults: &Table) -> String {
    let mut page = String::from("| key | default | values | meaning | of |\n|---|---|---|---|---|\n");
    for setting in declared {
        let default = &defaults[setting.key];
        let of = match setting.affects {
            Affects::Learning => "learning",
            Affects::Shapes => "learning, shapes",
            Affects::Length => "length",
            Affects::Scoring => "scoring",
        };
        let cells = [values(setting, default), setting.help.to_string()].map(|cell| cell.replace('|', "\\|"));
        writeln!(page, "| `{}` | `{default}` | {} | {of} |", setting.key, cells.join(" | ")).expect("text");
    }
    page
}

/// docs/settings.md as it should be.
fn settings() -> String {
    let mut page = String::from(
        "# Settings\n\nWritten by `just settings` from the `settings!` declarations in models/; a test compares.\n\n\
         `hotad train METHOD --set key=value` changes one, `--config FILE` reads a TOML file such as `hotad config METHOD` prints. Values are TOML; \
         text may go\nwithout quotes. Where \"values\" is empty the meaning lists them. The last column says what a setting is of: *learning*, with the \
         *shapes* of networks\nor what they see, which the model of `--init` has to share; the *length* of training, with which `--resume` may go on for longer; or *scoring*, which \
         `hotad eval --set` may\nchange of a trained model, but for `align`, `bank`, `bank_holdout`, `bank_views` and `u_limit`.\n",
    );
    for method in methods() {
        let defaults = (method.documented)().parse().expect("TOML");
        let table = table(&(method.declared)(), &defaults);
        write!(page, "\n## {}\n\n{}.\n\n{table}", method.name, method.summary).expect("text");
    }
    let table = table(&distill::Config::declared(), &distill::Config::default().to_table());
    write!(page, "\n## hotad distill\n\nOptions of the command: `--crop 96`.\n\n{table}").expect("text");
    page
}

#[test]
fn all_settings_are_listed() {
    if std::env::var_os("HOTAD_WRITE_SETTINGS").is_some() {
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md"), settings()).expect("written");
    }
    assert!(read("docs/settings.md") == settings(), "docs/settings.md is out of date; `just settings` writes it");
}

#[test]
fn pages_of_methods_are_short_and_their_commands_are_right() {
    let index = read("docs/methods.md");
    let rows: Vec<&str> = index.lines().filter(|line| line.starts_with("| [`")).collect();
    assert!(rows.len() > 15, "{rows:?}");
    for row in rows {
        let name = row.split('`').nth(1).expect("a name");
        let method = hotad_models::method(name).expect("a method");
        let file = links(row).into_iter().next().expect("a link");
        let page = read(Path::new("docs").join(&file));
        assert!(page.lines().count() <= PAGE, "{file} has more than {PAGE} lines");
        let train = format!("hotad train {name} ");
        let commands: Vec<&str> = page.lines().filter(|line| line.contains(&train)).collect();
        assert!(!commands.is_empty(), "{file} does not say how {name} is trained");
        for key in commands.iter().flat_map(|line| line.split("--set ").skip(1)).filter_map(|set| set.split('=').next())
        {
            assert!(method.has(key), "{file}: {name} has no setting {key}");
        }
    }
}

/// Targets of the links in a text, code aside.
fn links(text: &str) -> Vec<String> {
    let mut code = false;
    let mut found = Vec::new();
    for line in text.lines() {
        code ^= line.trim_start().starts_with("```");
        if code || line.starts_with("    ") {
            continue;
        }
        let targets = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
        found.extend(targets.map(String::from));
    }
    found
}

/// The anchor that GitHub makes of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn markdown(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path()) {
        let name = entry.file_name().unwrap_or_default().to_string_lossy();
        if entry.is_dir() && name != "target" && !name.starts_with('.') {
            markdown(&entry, found);
        } else if name.ends_with(".md") {
            found.push(entry);
        }
    }
}

#[test]
fn links_lead_somewhere() {
    let mut pages = Vec::new();
    markdown(Path::new(env!("CARGO_MANIFEST_DIR")), &mut pages);
    assert!(pages.len() > 10, "{pages:?}");
    let mut broken = Vec::new();
    for page in &pages {
        let text = read(page);
        for link in links(&text).into_iter().filter(|link| !link.contains(':')) {
            let (file, part) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
            let there = match part {
                "" => target.exists(),
                part => target.is_file() && read(&target).lines().any(|l| l.starts_with('#') && anchor(l) == part),
            };
            if !there {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
