// Where tokens of several sequences stand.

/// Where a token stands; a position below 0 is that of none.
struct Place {
    int position, capacity;
    // Of layers with a sliding window.
    int ring_place, ring_held, ring_capacity;
};

/// Keys of a token in layers of a kind.
__device__ __forceinline__ int held_of(const Place& place, int ring) {
    return place.position < 0 ? 0 : ring ? place.ring_held : place.position + 1;
}
