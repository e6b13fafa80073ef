//! Changes inputs where bytes alone would mostly break their JSON: a value becomes another value, a
//! key another key, and the input stays one that is looked at beyond its first line.

use fuzz_targets::json_files;
use libfuzzer_sys::fuzzer_mutate;
use serde_json::{Map, Value, json};

/// Every other change is libFuzzer's own, of bytes and with words of the dictionary.
pub(crate) fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut dice = Dice(u64::from(seed));
    if dice.below(2) == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    match changed(&data[..size], &mut dice).filter(|it| it.len() <= max_size) {
        Some(new) => {
            data[..new.len()].copy_from_slice(&new);
            new.len()
        }
        None => fuzzer_mutate(data, size, max_size),
    }
}

/// `data` with one to four changes in one of its JSON files.
fn changed(data: &[u8], dice: &mut Dice) -> Option<Vec<u8>> {
    let files = json_files(data);
    let range = files.get(dice.below(files.len().max(1)))?.clone();
    let mut value: Value = serde_json::from_slice(&data[range.clone()]).ok()?;
    for _ in 0..=dice.below(4) {
        let donor = pick(&value, dice).clone();
        let nodes = count(&value);
        change(nth(&mut value, dice.below(nodes)), donor, dice);
    }
    Some(
        [
            &data[..range.start],
            value.to_string().as_bytes(),
            &data[range.end..],
        ]
        .concat(),
    )
}

fn change(value: &mut Value, donor: Value, dice: &mut Dice) {
    match (dice.below(4), &mut *value) {
        (0, _) => *value = donor,
        (1, _) => *value = interesting(dice),
        (_, Value::Object(map)) => change_object(map, donor, dice),
        (_, Value::Array(list)) => change_list(list, donor, dice),
        (_, Value::Number(_)) => *value = change_number(value, dice),
        (_, Value::String(text)) => change_text(text, dice),
        _ => *value = interesting(dice),
    }
}

fn change_object(map: &mut Map<String, Value>, donor: Value, dice: &mut Dice) {
    let keys: Vec<String> = map.keys().cloned().collect();
    let Some(key) = keys.get(dice.below(keys.len().max(1))) else {
        map.insert("x".into(), donor);
        return;
    };
    match dice.below(4) {
        0 => {
            map.shift_remove(key);
        }
        1 => {
            map.insert(key.clone(), donor);
        }
        2 => {
            let moved = map.shift_remove(key).unwrap_or_default();
            let mut key = key.clone();
            change_text(&mut key, dice);
            map.insert(key, moved);
        }
        _ => {
            let other = &keys[dice.below(keys.len())];
            let value = map[key].clone();
            let former = map.insert(other.clone(), value);
            map.insert(key.clone(), former.unwrap_or_default());
        }
    }
}

fn change_list(list: &mut Vec<Value>, donor: Value, dice: &mut Dice) {
    let (at, other) = (dice.below(list.len().max(1)), dice.below(list.len().max(1)));
    match dice.below(4) {
        0 if !list.is_empty() => {
            list.remove(at);
        }
        1 if !list.is_empty() => list.swap(at, other),
        2 if !list.is_empty() => list.insert(at, list[other].clone()),
        _ => list.push(donor),
    }
}

fn change_number(value: &Value, dice: &mut Dice) -> Value {
    match (value.as_i64(), dice.below(6)) {
        (Some(n), 0) => json!(n.wrapping_add(1)),
        (Some(n), 1) => json!(n.wrapping_sub(1)),
        (Some(n), 2) => json!(n.wrapping_mul(2)),
        (Some(n), 3) => json!(n / 2),
        (Some(n), 4) => json!(n as f64),
        (None, 0) => json!(value.as_f64().unwrap_or_default() * 1e30),
        (None, 1) => json!(value.as_f64().unwrap_or_default() * 1e-30),
        (None, 2) => json!(value.as_f64().unwrap_or_default() as i64),
        _ => interesting(dice),
    }
}

fn change_text(text: &mut String, dice: &mut Dice) {
    let mut bytes = std::mem::take(text).into_bytes();
    let size = bytes.len();
    bytes.resize(size + 32, 0);
    let _ = dice.next();
    let new = fuzzer_mutate(&mut bytes, size, size + 32);
    *text = String::from_utf8_lossy(&bytes[..new]).into_owned();
}

fn interesting(dice: &mut Dice) -> Value {
    let values = [
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(-1),
        json!(127),
        json!(4096),
        json!(1 << 30),
        json!(i32::MAX),
        json!(u32::MAX),
        json!(1_u64 << 32),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(0.5),
        json!(-0.0),
        json!(1e308),
        json!(5e-324),
        json!(""),
        json!("\u{0}"),
        json!("\n"),
        json!("😀"),
        json!("1"),
        json!([]),
        json!({}),
    ];
    values[dice.below(values.len())].clone()
}

fn pick<'a>(value: &'a Value, dice: &mut Dice) -> &'a Value {
    let mut at = dice.below(count(value));
    fn find<'a>(value: &'a Value, at: &mut usize) -> Option<&'a Value> {
        if *at == 0 {
            return Some(value);
        }
        *at -= 1;
        children(value).find_map(|child| find(child, at))
    }
    find(value, &mut at).unwrap_or(value)
}

/// The node of a number, counted from the root down.
fn nth(value: &mut Value, at: usize) -> &mut Value {
    let mut left = at;
    let mut node = value;
    while left > 0 {
        left -= 1;
        let mut sizes = children(node).map(count).enumerate();
        let child = sizes.find_map(|(index, size)| {
            if left < size {
                return Some(index);
            }
            left -= size;
            None
        });
        drop(sizes);
        let child = child.expect("fewer nodes than were counted");
        node = match node {
            Value::Array(list) => &mut list[child],
            Value::Object(map) => map.values_mut().nth(child).expect("a child"),
            _ => unreachable!("a leaf has no children"),
        };
    }
    node
}

fn count(value: &Value) -> usize {
    1 + children(value).map(count).sum::<usize>()
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(list) => Box::new(list.iter()),
        Value::Object(map) => Box::new(map.values()),
        _ => Box::new(std::iter::empty()),
    }
}

/// SplitMix64 from libFuzzer's seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
