// The stream of weights: each warp's tiles of all products of all layers, in order, through a ring
// in shared memory.
//
// Which weights a warp reads does not depend on any activation, so the stream runs ahead of the
// computation and does not stop where the computation waits: while a block stands at a barrier or
// attends, its ring fills with the next product's tiles. The ring is the warp's own, so nothing
// but the warp's lanes has to agree on it. To reach further ahead, by prefetches into the second-level
// cache, was tried before and behind barriers, and cost time: the few small reads that a phase begins
// with wait behind what was asked for early.
//
// A tile in the ring is 16 rows of 128 bytes, the 16-byte columns of row r exchanged by xor with
// r % 8 so that `load_matrices` meets no bank twice; behind it lie the words of scales, then those
// of biases, row by row. Of 12 bits an element, it is two units as they are.

/// Starts the copies of the tile at a cursor.
struct Copier : Cursor {
    using Cursor::Cursor;

    __device__ __forceinline__ void copy_tile(u32 stage) {
        if (bits() == 12) {
            copy_units(stage);
        } else {
            copy_rows(stage);
        }
    }

    /// Each lane copies what it will use, and the first four the ends.
    __device__ __forceinline__ void copy_units(u32 stage) {
        const int lane = threadIdx.x % 32;
        u32 to = stage + lane * 16;
#pragma unroll
        for (int i = 0; i < 3; i++) {
            copy16(to + i * 512, upper + i * 512, 16);
            copy16(to + UNIT_BYTES + i * 512, lower + i * 512, 16);
        }
        if (lane < 2) copy16(to + UNIT_TOPS, upper + UNIT_TOPS, 16);
        if (lane >= 2 && lane < 4) copy16(to + UNIT_BYTES + UNIT_TOPS - 32, lower + UNIT_TOPS - 32, 16);
    }

    __device__ __forceinline__ void copy_rows(u32 stage) {
        const int lane = threadIdx.x % 32, row = lane / 8, column = lane % 8;
        u32 to = stage + row * 128 + (column ^ row) * 16, to4 = stage + (row + 4) * 128 + (column ^ (row + 4)) * 16;
        // Columns behind the end of the row become zeros; nothing is read for them.
        int bytes = deep * 128 + column * 16 < row_bytes ? 16 : 0;
        u32 step = 4 * row_bytes;
        copy16(to, upper, bytes);
        copy16(to4, upper + step, bytes);
        copy16(to + 1024, lower, bytes);
        copy16(to4 + 1024, lower + step, bytes);
        if (ANY_AFFINE) {
            if (kind == LOGITS) {
                copy_scales<LOGITS>(stage + 2048);
            } else {
                copy_scales<QKV>(stage + 2048);
            }
        }
    }

    /// Lanes 2 r and 2 r + 1 copy the words of row r.
    template <int KIND>
    __device__ __forceinline__ void copy_scales(u32 to) {
        typedef Product<KIND> P;
        if constexpr (is_affine(P::BIT)) {
            constexpr int WORDS = P::SCALE_WORDS, EACH = WORDS == 1 ? 1 : WORDS / 2;
            const int lane = threadIdx.x % 32;
            if (WORDS == 1 && lane % 2 != 0) return;
            // Two groups are a word; a tile of a single group shares its word with its neighbour.
            int first = P::TILE == P::GROUP_SIZE ? deep / 2 : deep * WORDS;
            int held = row_bytes * 8 / P::BIT / P::GROUP_SIZE / 2;
#pragma unroll
            for (int i = 0; i < EACH; i++) {
                int word = (WORDS == 1 ? 0 : lane % 2 * EACH) + i;
                int bytes = first + word < held ? 4 : 0;
                u32 at = to + (lane / 2 * WORDS + word) * 4;
                u32 from = (first + word) * 4;
                copy4(at, scales + from, bytes);
                copy4(at + 16 * WORDS * 4, biases + from, bytes);
            }
        }
    }
};

struct Stream : Copier {
    u32 ring;
    // Stages of the ring.
    int put, take;

    __device__ __forceinline__ Stream(const u64* matrices, unsigned char* ring_) : Copier(matrices), put(0), take(0) {
        ring = shared_address(ring_) + threadIdx.x / 32 * RING_STAGES * STAGE_BYTES;
    }

    /// Fills the ring for the first time.
    __device__ __forceinline__ void start() {
#pragma unroll 1
        for (int i = 0; i < RING_STAGES; i++) fetch();
    }

    /// Waits for the oldest tile; its address in shared memory.
    __device__ __forceinline__ u32 oldest() {
        copies_wait<RING_STAGES - 1>();
        __syncwarp();
        return ring + take * STAGE_BYTES;
    }

    /// Gives the oldest tile's place to the next one of the stream.
    __device__ __forceinline__ void advance() {
        __syncwarp();
        take = take + 1 == RING_STAGES ? 0 : take + 1;
        fetch();
    }

    /// Starts the copy of the next tile. Behind the end of the stream, an empty group of copies
    /// keeps the count that `oldest` relies on.
    __device__ __forceinline__ void fetch() {
        settle();
        if (left != 0) {
            copy_tile(ring + put * STAGE_BYTES);
            skip();
            put = put + 1 == RING_STAGES ? 0 : put + 1;
        }
        copies_commit();
    }
};
