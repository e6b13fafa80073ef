//! The words of a step, by names that the kernel has, too: written once, here.

/// An enumeration, and the same as the kernel's source. Its last name counts the others.
macro_rules! named {
    ($(#[$doc:meta])* $kind:ident, $text:ident: $($name:ident)+) => {
        $(#[$doc])*
        #[allow(
            non_camel_case_types,
            clippy::upper_case_acronyms,
            reason = "as the kernel names them"
        )]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
        pub(super) enum $kind { $($name),+ }

        pub(super) const $text: &str = concat!("enum ", stringify!($kind), " {", $(stringify!($name), ", ",)+ "};\n");
    };
}

named! {
    /// What a step does.
    Op, OPS: EMBED OWN_INPUTS PRODUCT EXPERTS_UP EXPERTS_DOWN ATTEND NET
}
named! {
    /// What a product multiplies: a vector as it was left, the residual stream with what is added to it, or what the
    /// heads of a gated delta net have read, through their norm and gates.
    Input, INPUTS: COPY STREAM READS
}
named! {
    /// How a matrix is stored; from `EIGHT_BITS` on with scales.
    Format, FORMATS: FLOATS HALVES EIGHT_BITS FOUR_BITS SMALL_FLOATS
}
named! {
    /// What becomes of a row's sum.
    Ending, ENDINGS: STORE GATED LOGITS TIMES_OWN ADD_SHARED
}
named! {
    /// Of a gate.
    Gate, GATES: SILU GELU CLAMPED
}
named! {
    /// Numbers of a step: integers, places in the arena in floats, and floats by their bits. Places below zero are none.
    /// From `TOP` on only mixtures read them, from `HEADS` on only attention, from `NET_HEADS` on only gated delta nets
    /// and what multiplies their `READS`: `Plan::known` counts on it.
    Word, NUMBERS:
    OP MEET INPUT COLUMNS FROM ADDEND SECOND KEEP NORMED WIDE_NORM EPS ADDEND_EPS SECOND_EPS SUM_EPS SCALE SUMS_AT
    FORMAT GROUP WIDE_SCALES PARTS ENDING ACTIVATION LIMIT ALPHA CAP OWN
    ROWS ROWS_1 ROWS_2 ROWS_3 TO TO_1 TO_2 TO_3
    TOP EXPERTS RENORMALISED ROUTER_LOGITS ROUTER_SCALE
    HEADS KV_HEADS DIM QUERIES QUERY_STRIDE KEYS VALUES QUERY_EPS KEY_EPS VALUE_EPS PLANES POSITION_SCALE
    SCORE_SCALE SCORE_CAP
    LAYER SLIDES SPLITS PARTIAL COUNTERS
    NET_HEADS KEY_HEADS KEY_DIM VALUE_DIM WIDTH OF_TASK BY_KEY_HEAD MIXED READ_GATES LEARNED FORGOTTEN
    STATE TAIL
    WORDS
}
named! {
    /// Arrays of a step. A matrix has four: weight, scales, biases of groups, and what is added to its rows.
    Address, ARRAYS:
    ADDEND_NORM NORM SECOND_NORM SUM_NORM
    MATRIX MATRIX_1 MATRIX_2 MATRIX_3 MATRIX_4 MATRIX_5 MATRIX_6 MATRIX_7
    MATRIX_8 MATRIX_9 MATRIX_10 MATRIX_11 MATRIX_12 MATRIX_13 MATRIX_14 MATRIX_15
    FACTORS QUERY_NORM KEY_NORM PERIODS SINKS FILTER DECAY FORGETTING
    ADDRESSES
}

/// All of them as the kernel's source.
pub(super) fn source() -> String {
    [OPS, INPUTS, FORMATS, ENDINGS, GATES, NUMBERS, ARRAYS].concat()
}
