//! What a process holds: in a program of its own.

#![cfg(test)]
#![cfg(target_os = "linux")]

#[path = "it/small_tokenizer.rs"]
mod small_tokenizer;

use models::tokenizer::Tokenizer;

#[test]
fn tokenizers_that_come_and_go_leave_no_memory_behind() {
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux says it");
        let pages = statm
            .split(' ')
            .nth(1)
            .and_then(|it| it.parse::<usize>().ok());
        pages.expect("a number") * 4096
    };
    let dir = small_tokenizer::directory(&[]);
    // Words of the library's liking: it keeps up to 10,000 that are shorter than 256 bytes.
    let words = (0..80).map(|n| format!("{n:0>240}"));
    let text = words.collect::<Vec<_>>().join("<s>");
    let load_and_use = |times| {
        for _ in 0..times {
            let tokenizer = Tokenizer::from_dir(dir.path()).unwrap();
            assert!(tokenizer.encode(&text, false).unwrap().len() > 80 * 240);
        }
    };
    load_and_use(5);
    let before = resident();
    load_and_use(30);
    let grown = resident().saturating_sub(before);
    assert!(grown < 8 << 20, "{} kB a tokenizer", grown / 30 / 1024);
}
