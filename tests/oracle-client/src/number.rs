//! Oracle's numbers (Oracle Call Interface Programmer's Guide, "NUMBER"): digits to the base of 100 behind an exponent.

/// The most bytes of a number: its length, its exponent, and 20 digits.
pub(crate) const SIZE: usize = 22;

/// As text.
pub(crate) fn decode(bytes: &[u8; SIZE]) -> Option<String> {
    let length = usize::from(bytes[0]);
    if length == 0 || length >= SIZE {
        return None;
    }
    let exponent = bytes[1];
    if exponent == 0x80 {
        return (length == 1).then(|| "0".to_owned());
    }
    let positive = exponent & 0x80 != 0;
    let (power, digits): (i32, Vec<u8>) = if positive {
        (
            i32::from(exponent) - 193,
            bytes[2..=length].iter().map(|digit| digit.wrapping_sub(1)).collect(),
        )
    } else {
        let mut digits = &bytes[2..=length];
        // 102 ends a negative number, so that it sorts.
        if digits.last() == Some(&102) {
            digits = &digits[..digits.len() - 1];
        }
        (
            62 - i32::from(exponent),
            digits.iter().map(|digit| 101u8.wrapping_sub(*digit)).collect(),
        )
    };
    if digits.is_empty() || digits.iter().any(|digit| *digit > 99) {
        return None;
    }
    let mut text = if positive { String::new() } else { "-".to_owned() };
    if power < 0 {
        text.push_str("0.");
        text.push_str(&"00".repeat((-power - 1) as usize));
    }
    for (index, digit) in digits.iter().enumerate() {
        text.push_str(&format!("{digit:02}"));
        if index as i32 == power && index + 1 < digits.len() {
            text.push('.');
        }
    }
    let missing = power + 1 - digits.len() as i32;
    if power >= 0 && missing > 0 {
        text.push_str(&"00".repeat(missing as usize));
    }
    Some(text)
}

/// From plain text such as `-12.5`. Digits that do not fit are an error, not rounded.
pub(crate) fn encode(text: &str) -> Option<[u8; SIZE]> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    if !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) || whole.len() + fraction.len() == 0 {
        return None;
    }
    let mut whole = whole.trim_start_matches('0').to_owned();
    let mut fraction = fraction.trim_end_matches('0').to_owned();
    if whole.len() % 2 == 1 {
        whole.insert(0, '0');
    }
    if fraction.len() % 2 == 1 {
        fraction.push('0');
    }
    let pairs = |text: &str| -> Vec<u8> {
        text.as_bytes()
            .chunks(2)
            .map(|pair| (pair[0] - b'0') * 10 + pair[1] - b'0')
            .collect()
    };
    let mut digits = pairs(&whole);
    let mut power = digits.len() as i32 - 1;
    digits.extend(pairs(&fraction));
    while digits.first() == Some(&0) {
        digits.remove(0);
        power -= 1;
    }
    while digits.last() == Some(&0) {
        digits.pop();
    }
    let mut bytes = [0; SIZE];
    if digits.is_empty() {
        (bytes[0], bytes[1]) = (1, 0x80);
        return Some(bytes);
    }
    if digits.len() > 20 || !(-65..=62).contains(&power) {
        return None;
    }
    bytes[1] = (if negative { 62 - power } else { power + 193 }) as u8;
    for (place, digit) in bytes[2..].iter_mut().zip(&digits) {
        *place = if negative { 101 - digit } else { digit + 1 };
    }
    let mut length = digits.len() + 1;
    if negative && digits.len() < 20 {
        bytes[length + 1] = 102;
        length += 1;
    }
    bytes[0] = length as u8;
    Some(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_oracle_s_own_examples() {
        // As DUMP shows them.
        assert_eq!(encode("5").unwrap()[..3], [2, 193, 6]);
        assert_eq!(encode("2767").unwrap()[..4], [3, 194, 28, 68]);
        assert_eq!(encode("-2767").unwrap()[..5], [4, 61, 74, 34, 102]);
        assert_eq!(encode("100000").unwrap()[..3], [2, 195, 11]);
        assert_eq!(encode("1234567").unwrap()[..6], [5, 196, 2, 24, 46, 68]);
        assert_eq!(encode("0").unwrap()[..2], [1, 128]);
    }

    #[test]
    fn a_number_comes_back_as_it_went() {
        for text in [
            "0",
            "1",
            "-1",
            "99",
            "100",
            "12345",
            "9223372036854775807",
            "-9223372036854775808",
            "100000000000000000000",
        ] {
            let read: i128 = decode(&encode(text).unwrap()).unwrap().parse().unwrap();
            assert_eq!(read.to_string(), text);
        }
        for text in [
            "0.0000000001",
            "-0.05",
            "1.5",
            "-999999999999999999.9999999999",
            "10.01",
        ] {
            let read = decode(&encode(text).unwrap()).unwrap();
            let plain = read.replacen("-0", "-", 1);
            let plain = plain.trim_start_matches('0').trim_end_matches('0');
            let wanted = text.replacen("-0.", "-.", 1);
            assert_eq!(plain.replacen("-0", "-", 1), wanted.trim_start_matches('0'), "{read}");
        }
        assert!(encode("1e5").is_none() && encode("").is_none() && encode(&"9".repeat(43)).is_none());
    }
}
