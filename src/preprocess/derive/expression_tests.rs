use proptest::prelude::*;

use super::*;

/// The value of `text` with channels a.x = 6, b = 3, and anything else 1.
fn value(text: &str) -> f64 {
    let expression = Expression::new(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
    let of = |name: &String| match name.as_str() {
        "a.x" => 6.0,
        "b" => 3.0,
        _ => 1.0,
    };
    expression.value(&expression.inputs().iter().map(of).collect::<Vec<_>>())
}

#[test]
fn operators_bind_as_on_paper() {
    let cases = [
        ("1 + 2 * 3", 7.0),
        ("10 - 4 - 3", 3.0),
        ("a.x / b - 1", 1.0),
        ("-2^2", -4.0),
        ("2^3^2", 512.0),
        ("2^-1", 0.5),
        ("(1 + 2) * 3", 9.0),
        ("7 % 4 * 2", 6.0),
        ("1e-3 * 2.5E+3 + .5", 3.0),
        ("- - +1", 1.0),
        ("`a.x`+`wheel-rl/é`", 7.0),
        ("1 + 1 < 3", 1.0),
        ("a.x == 2 * b", 1.0),
        ("a.x != 6", 0.0),
        ("if(a.x >= 6, 10, 20)", 10.0),
        ("clamp(a.x, 0, 5)", 5.0),
        ("max(1, b, 2) + min(4, 5)", 7.0),
        ("hypot(b, 4) + sqrt(4) + abs(-1)", 8.0),
        ("cos(2 * pi) + sign(-0.0)", 1.0),
        ("deg(pi)", 180.0),
    ];
    for (text, expected) in cases {
        assert_eq!(value(text), expected, "{text}");
    }
}

#[test]
fn what_is_no_number_stays_none_in_every_function() {
    for text in ["max(1, 0/0)", "min(0/0, 1)", "clamp(0/0, 0, 1)", "if(0/0, 1, 2)", "0/0 < 1", "1 != 0/0"] {
        assert!(value(text).is_nan(), "{text}");
    }
}

#[test]
fn channels_are_listed_once_in_the_order_in_which_they_are_named() {
    let expression = Expression::new("b.y * a.x + b.y / `c d`").unwrap();
    assert_eq!(expression.inputs(), ["b.y", "a.x", "c d"]);
}

#[test]
fn a_fault_says_at_which_character_it_is_and_what_is_expected() {
    let cases = [
        ("", "at character 1: a number, a channel or `(` is expected, not the end"),
        ("a +", "at character 4: a number"),
        ("a b", "at character 3: an operator or the end is expected, not `b`"),
        ("é * (a + 2", "at character 5: there is no `)` to this `(`"),
        ("a)", "at character 2: there is no `(` to this `)`"),
        ("1 + sqr(a)", "at character 5: there is no function `sqr`; there are abs, acos"),
        ("atan2(a)", "at character 1: `atan2` takes 2 values, not 1"),
        ("max(a)", "at character 1: `max` takes 2 or more values, not 1"),
        ("sqrt()", "`sqrt` takes 1 values, not 0"),
        ("sin + 1", "at character 1: `sin` is a function and needs `(`"),
        ("2x", "at character 1: `2x` is no number"),
        ("1.2.3", "`1.2.3` is no number"),
        ("1e999", "is no number"),
        ("a = b", "at character 3: a comparison is"),
        ("a < b < c", "at character 7: an operator or the end is expected, not `<`"),
        ("`a", "at character 1: there is no second backtick"),
        ("``", "a channel has no empty name"),
        ("a & b", "at character 3: an operator or the end is expected, not `&`"),
        ("(a b)", "at character 4: `)` or an operator is expected, not `b`"),
    ];
    for (text, expected) in cases {
        let fault = Expression::new(text).unwrap_err().to_string();
        assert!(fault.contains(expected), "{text}: {fault}");
    }
}

#[test]
fn length_nesting_and_channels_are_bounded_and_what_is_allowed_fits_the_stack() {
    let fault = |text: &str| Expression::new(text).unwrap_err().to_string();
    assert!(fault(&"1".repeat(EXPRESSION_BYTES_MAX + 1)).contains("bytes"));
    let nested = |levels: usize| format!("{}1{}", "(".repeat(levels), ")".repeat(levels));
    assert_eq!(value(&nested(EXPRESSION_NESTING_MAX - 1)), 1.0);
    assert!(fault(&nested(EXPRESSION_NESTING_MAX)).contains("nested deeper"));
    assert!(fault(&"-".repeat(200)).contains("nested deeper"));
    let many: Vec<String> = (0..=EXPRESSION_INPUTS_MAX).map(|i| format!("c{i}")).collect();
    assert!(fault(&many.join("+")).contains("more than"));
    // As much left waiting at each level as can be.
    let levels = EXPRESSION_NESTING_MAX - 1;
    let call = "if(1, 1, 1 < 1 + 1 * ";
    assert_eq!(value(&format!("{}1{}", call.repeat(levels), ")".repeat(levels))), 1.0);
    let power = "1 < 1 + 1 * 2 ^ (";
    value(&format!("{}1{}", power.repeat(levels / 2), ")".repeat(levels / 2)));
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,40}") {
        let _ = Expression::new(&text);
    }

    #[test]
    fn no_row_of_words_panics_and_what_compiles_has_a_value(
        words in prop::collection::vec(prop::sample::select(vec![
            "a.b", "1", "2.5e3", "+", "-", "*", "/", "^", "%", "(", ")", ",", "min(", "if(", "sin(", "`x y`", "<", ">=",
            "==", "!", " ", "pi", "é", ".", "e",
        ]), 0..24),
    ) {
        if let Ok(expression) = Expression::new(&words.concat()) {
            expression.value(&vec![1.5; expression.inputs().len()]);
        }
    }
}
