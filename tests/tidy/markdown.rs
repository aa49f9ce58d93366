//! What the pages claim of each other.

use crate::File;

/// Decision records: numbered without holes, each with a title, a date and a status.
pub(crate) fn decisions(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut expected = 1;
    for file in files {
        let Some(name) = file.path.strip_prefix("docs/decisions/") else { continue };
        let number = name.split('-').next().filter(|number| number.len() == 4);
        let Some(number) = number.and_then(|number| number.parse::<u32>().ok()) else {
            complaints.push(format!("{}: name it NNNN-title.md", file.path));
            continue;
        };
        if number != expected {
            complaints.push(format!("{}: {expected:04} comes next: numbers have no holes and no doubles", file.path));
        }
        expected = number + 1;
        if !file.text.starts_with(&format!("# {number:04} ")) {
            complaints.push(format!("{}: its title has to begin with `# {number:04} `", file.path));
        }
        for part in ["\nDate: 20", "\nStatus: ", "\n## Context\n", "\n## Decision\n"] {
            if !file.text.contains(part) {
                complaints.push(format!("{}: it lacks `{}`", file.path, part.trim()));
            }
        }
    }
    complaints
}

/// Links to files of the project that are not there.
pub(crate) fn links(files: &[File], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.has_extension(&["md"])) {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for target in file.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or(target);
            if path.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
            for part in path.split('/') {
                match part {
                    ".." => drop(parts.pop()),
                    "." | "" => {}
                    part => parts.push(part),
                }
            }
            if !exists(&parts.join("/")) {
                complaints.push(format!("{}: the link to {target} leads nowhere", file.path));
            }
        }
    }
    complaints
}

/// Names of metrics on the pages that the monitor does not serve. `source` is the file that names them.
pub(crate) fn metrics(files: &[File], source: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    // The encoder appends the unit and what a counter needs.
    let stem = |name: &str| {
        let name = name.strip_suffix("_total").unwrap_or(name);
        ["_bytes", "_seconds"].iter().find_map(|unit| name.strip_suffix(unit)).unwrap_or(name).to_owned()
    };
    for file in files.iter().filter(|file| file.has_extension(&["md"])) {
        for span in file.text.split('`').skip(1).step_by(2) {
            let name = span.split('{').next().unwrap_or(span);
            let is_metric = (name.starts_with("pitwire_") || name.starts_with("process_"))
                && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            if is_metric && !source.contains(&format!("\"{}\"", stem(name))) {
                complaints.push(format!("{}: there is no metric {name}", file.path));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file;

    fn decision(name: &str, title: &str) -> File {
        let text = format!("# {title}\n\nDate: 2026-01-01\nStatus: accepted\n\n## Context\n\n## Decision\n");
        file(&format!("docs/decisions/{name}"), &text)
    }

    #[test]
    fn a_hole_a_double_and_a_missing_status_are_found() {
        let (one, two) = (|| decision("0001-a.md", "0001 A"), || decision("0002-b.md", "0002 B"));
        assert_eq!(decisions(&[one(), two()]), [""; 0]);
        assert!(decisions(&[two()])[0].contains("0001 comes next"));
        assert!(decisions(&[one(), decision("0001-b.md", "0001 B")])[0].contains("0002 comes next"));
        assert!(decisions(&[one(), decision("0002-b.md", "0001 B")])[0].contains("title"));
        assert!(decisions(&[decision("next.md", "x")])[0].contains("NNNN-title.md"));
        let mut without = one();
        without.text = without.text.replace("Status", "State");
        assert!(decisions(&[without])[0].contains("lacks `Status:`"));
    }

    #[test]
    fn a_metric_that_is_not_served_is_found() {
        let source = r#"gauge("pitwire_spill_disk", BYTES)"#;
        let page = |name: &str| [file("a.md", &format!("see `{name}`"))];
        assert_eq!(metrics(&page("pitwire_spill_disk_bytes"), source), [""; 0]);
        assert_eq!(
            metrics(&page("pitwire_spil_disk_bytes"), source),
            ["a.md: there is no metric pitwire_spil_disk_bytes"]
        );
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let page = file("docs/a.md", "[x](b.md#top) [y](../README.md) [z](https://example.org) [t](#here) ![p](p.png)");
        let there = ["docs/b.md", "README.md"];
        assert_eq!(links(&[page], |path| there.contains(&path)), ["docs/a.md: the link to p.png leads nowhere"]);
    }
}
