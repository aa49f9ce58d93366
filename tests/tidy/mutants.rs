//! Whether the mutants of the durability code still fit it.

use crate::File;

/// A mutant's file, text and tests.
struct Mutant<'a> {
    file: &'a str,
    text: &'a str,
    instead: &'a str,
    test: &'a str,
}

fn parse(text: &str) -> Option<Mutant<'_>> {
    let (head, rest) = text.split_once("<<<<<<<\n")?;
    let (old, rest) = rest.split_once("\n=======\n")?;
    let (instead, _) = rest.split_once("\n>>>>>>>")?;
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
    field("what: ")?;
    Some(Mutant { file: field("file: ")?, text: old, instead, test: field("test: ")? })
}

/// Mutants that do not apply to exactly one place, and those whose tests are not there.
pub(crate) fn complaints(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.has_extension(&["mutant"])) {
        let mut complain = |what: String| complaints.push(format!("{}: {what}", file.path));
        let Some(mutant) = parse(&file.text) else {
            complain("not in the form that tests/mutants/run describes".into());
            continue;
        };
        let source = files.iter().find(|other| other.path == mutant.file);
        match source.map(|source| source.text.matches(mutant.text).count()) {
            None => complain(format!("{} is gone: name the file that does it now", mutant.file)),
            Some(1) if mutant.text != mutant.instead => {}
            Some(1) => complain("changes nothing".into()),
            Some(count) => {
                complain(format!("its text is {count} times in {}, not once: take it from there anew", mutant.file))
            }
        }
        // The filters behind `--`, or behind the target: each has to be a part of a test's path.
        let words = mutant.test.split(' ').filter(|word| word.contains("::"));
        for word in words {
            let (_, name) = word.rsplit_once("::").unwrap_or_default();
            let there =
                files.iter().any(|other| other.has_extension(&["rs"]) && other.text.contains(&format!("fn {name}")));
            if !there && !name.is_empty() && !word.starts_with("deliver::") {
                complain(format!("no test is called {word}"));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file;

    fn mutant(test: &str, old: &str, new: &str) -> File {
        let text = format!("what: w\nfile: src/a.rs\ntest: {test}\n<<<<<<<\n{old}\n=======\n{new}\n>>>>>>>\n");
        file("tests/mutants/a.mutant", &text)
    }

    #[test]
    fn a_mutant_that_fits_no_more_is_found() {
        let source = || file("src/a.rs", "one\ntwo\ntwo\nfn good_test() {}\n");
        let of = |mutant: File| complaints(&[source(), mutant]).len();
        assert_eq!(of(mutant("--lib a::good_test", "one", "1")), 0);
        assert_eq!(of(mutant("--lib a::good_test", "two", "2")), 1, "twice");
        assert_eq!(of(mutant("--lib a::good_test", "three", "3")), 1, "gone");
        assert_eq!(of(mutant("--lib a::good_test", "one", "one")), 1, "no change");
        assert_eq!(of(mutant("--lib a::bad_test", "one", "1")), 1, "no such test");
        assert_eq!(of(file("tests/mutants/a.mutant", "what: w\n")), 1, "no form");
        assert_eq!(complaints(&[mutant("--lib a::", "one", "1")]).len(), 1, "no such file");
    }
}
