// A token of each of several sequences through the whole model, in one launch that reads the weights once.
//
// As `token.cu`, but for where things lie. The inputs of all tokens fill what room there is in shared memory,
// so the residual streams have no place in every block: block t keeps that of token t and leaves its
// normalized form in device memory, for which all wait. A token's bits are those that it would have
// alone: its sums are the same, in the same order.

/// A part of a token's attention that this block has.
struct Item {
    int token;
    Part part;
};

/// What a block does in the attention of layers: the same in all layers of a kind, with a sliding window or
/// without.
struct Shares {
    Place places[TOKENS];
    Item items[2][TOKENS];
    u32 is_last[TOKENS];
};
static_assert(sizeof(Shares) == TOKENS * PLACE_BYTES, "the layout of shared memory");

/// The block's `i`th item in layers of a kind, of all tokens' parts every GRIDth; behind the last one that of
/// no token, TOKENS. A token has no more than GRID parts, so a block has no more than TOKENS.
__device__ __forceinline__ Item item_of(const Place* places, int ring, int i) {
    int number = blockIdx.x + i * GRID;
#pragma unroll 1
    for (int token = 0; token < TOKENS; token++) {
        const int held = held_of(places[token], ring);
        const int parts = Part::splits_of(held) * KV_HEADS;
        if (number < parts) return Item{token, Part(held, number)};
        number -= parts;
    }
    return Item{TOKENS, Part(1, 0)};
}

/// The block's items: the heads of all of them are prepared at once, and their heads' parts are counted at once,
/// since each of these takes as long for one item as for all.
template <typename ContextOf, typename EachItem>
__device__ __forceinline__ void attend_items(const u64* words, const Item* items, ContextOf context_of,
                                             EachItem each_item, u32* scratch, unsigned char* shared, u32* is_last) {
    Timeline timeline(scratch);
    auto of_token = [&](int token) { return scratch + token * TOKEN_STRIDE; };
    auto queries = [&](int i) { return reinterpret_cast<u16*>(shared + AT_QUERIES + i * QUERY_BYTES); };
    int first = 0;
    each_item([&](int i, const Item& item) {
        const Context context = context_of(item.token);
        const int heads = heads_of(context, item.part);
        const float* qkv = reinterpret_cast<const float*>(of_token(item.token) + AT_QKV);
        // The warps take them in turn, going on where the last item's ended.
        for (int head = (threadIdx.x / 32 + WARPS - first) % WARPS; head < heads; head += WARPS)
            prepare_head(qkv, words, context, item.part.head, head, queries(i));
        first = (first + heads) % WARPS;
    });
    __syncthreads();
    each_item([&](int i, const Item& item) {
        attend_keys(context_of(item.token), item.part, of_token(item.token), shared, queries(i), timeline);
        __syncthreads();
    });
    if (threadIdx.x < TOKENS && items[threadIdx.x].token < TOKENS) {
        const Item& item = items[threadIdx.x];
        u32* counter = scratch + AT_HEAD_COUNTERS + item.token * KV_HEADS + item.part.head;
        is_last[threadIdx.x] = counted_last(counter, item.part.splits);
    }
    __syncthreads();
    each_item([&](int i, const Item& item) {
        if (is_last[i] == 0) return;
        combine_parts(item.part, of_token(item.token), shared);
        __syncthreads();
    });
}

#define PLACE_OF(t) int position##t, int capacity##t, int ring_place##t, int ring_held##t, int ring_capacity##t
#define PUT_PLACE(t) \
    if (t < TOKENS) shares.places[t] = Place{position##t, capacity##t, ring_place##t, ring_held##t, ring_capacity##t};

/// `tokens`: int32 [TOKENS]; `caches`: for each token, the addresses of the keys and of the values of each
/// layer; `logits`: float32 [TOKENS, VOCAB]. The others are those of `decode_token`, with a `Place` for each of
/// eight tokens, of which the first TOKENS are read.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    decode_tokens(const int* tokens, const u64* table, const u64* caches, u32* scratch, const unsigned char* /*after*/,
                  float* logits, unsigned char* done, PLACE_OF(0), PLACE_OF(1), PLACE_OF(2), PLACE_OF(3), PLACE_OF(4),
                  PLACE_OF(5), PLACE_OF(6), PLACE_OF(7)) {
    extern __shared__ __align__(128) unsigned char shared[];
    float* residual = reinterpret_cast<float*>(shared + AT_RESIDUAL);
    u16* input = reinterpret_cast<u16*>(shared + AT_INPUT);
    float* sums = reinterpret_cast<float*>(shared + AT_SUMS);
    float* pieces = reinterpret_cast<float*>(shared + AT_PIECES);
    float* reduce = reinterpret_cast<float*>(shared + AT_REDUCE);
    u64* matrices = reinterpret_cast<u64*>(shared + AT_TABLE);
    Shares& shares = *reinterpret_cast<Shares*>(shared + AT_PLACES);
    const Place* places = shares.places;
    const u64* last = table + LAYERS * LAYER_WORDS;

    keep_matrices(table, last, matrices);
    u64* kept = matrices + KEPT_MATRICES;
    for (int i = threadIdx.x; i < LAYERS * KEPT_WORDS; i += THREADS) {
        const int layer = i / KEPT_WORDS, word = i % KEPT_WORDS, cache = word - KEPT_KEYS;
        kept[i] = cache < 0 ? table[layer * LAYER_WORDS + INPUT_NORM + word]
                            : caches[cache / 2 * 2 * LAYERS + 2 * layer + cache % 2];
    }
    if (threadIdx.x == 0) {
        PUT_PLACE(0) PUT_PLACE(1) PUT_PLACE(2) PUT_PLACE(3) PUT_PLACE(4) PUT_PLACE(5) PUT_PLACE(6) PUT_PLACE(7)
    }
    __syncthreads();
    if (threadIdx.x < 2 * TOKENS)
        shares.items[threadIdx.x / TOKENS][threadIdx.x % TOKENS] =
            item_of(places, threadIdx.x / TOKENS, threadIdx.x % TOKENS);
    __syncthreads();
    unsigned char* ring = shared + AT_RING;
    Stream stream(matrices, ring);
    stream.start();
    Barrier barrier(scratch + AT_COUNTERS);
    Account account;
    auto wait = [&] {
        barrier.wait();
        account.charge(WAIT);
    };
    const int kept_token = blockIdx.x;
    const bool keeps = kept_token < TOKENS && places[kept_token].position >= 0;
    u32 kept_tokens = 0;
    for (int token = 0; token < TOKENS; token++) kept_tokens += places[token].position >= 0;
    auto wait_for_normalized = [&] {
        account.charge(NORMALIZE);
        barrier.wait_for(kept_tokens, keeps);
        account.charge(WAIT);
    };

    float2* rotations = reinterpret_cast<float2*>(shared + AT_ROTATION);
    constexpr int ROTATION = ROTATIONS * (HEAD_DIM / 2);
#pragma unroll 1
    for (int token = 0; token < TOKENS; token++) {
        const int position = places[token].position;
        float2* rotation = rotations + token * ROTATION;
        rotation_at(position, POSITION_SCALE, reinterpret_cast<const float*>(last[PERIODS]), rotation);
        if (ROTATIONS == 2)
            rotation_at(position, RING_POSITION_SCALE, reinterpret_cast<const float*>(last[RING_PERIODS]),
                        rotation + HEAD_DIM / 2);
    }
    // What this block's token leaves in device memory, counted from where the first token's begins.
    u32* own = scratch + kept_token * TOKEN_STRIDE;
    u16* normalized = reinterpret_cast<u16*>(own + AT_NORMALIZED);
    if (keeps) embed(tokens[kept_token], last + EMBEDDING, residual);

    auto of_token = [&](int at, int token) {
        return reinterpret_cast<float*>(scratch + at + token * TOKEN_STRIDE);
    };

#pragma unroll 1
    for (int layer = 0; layer < LAYERS; layer++) {
        const u64* words = kept + layer * KEPT_WORDS;
        const int kind_of_keys = is_ring(layer);
        const Item* items = shares.items[kind_of_keys];
        auto context_of = [&](int token) {
            const Place& place = places[token];
            const float2* rotation = rotations + token * ROTATION;
            const u64* cache = words + KEPT_KEYS + 2 * token;
            return kind_of_keys ? Context{place.ring_place, place.ring_held, place.ring_capacity,
                                          rotation + HEAD_DIM / 2, RING_SCORE_SCALE, cache[0], cache[1]}
                                : Context{place.position, place.position + 1, place.capacity, rotation, SCORE_SCALE,
                                          cache[0], cache[1]};
        };
        auto each_item = [&](auto work) {
#pragma unroll 1
            for (int i = 0; i < TOKENS && items[i].token < TOKENS; i++) work(i, items[i]);
        };
        if (layer + 1 < LAYERS && blockIdx.x == layer % GRID) prefetch_norms(words + KEPT_WORDS);
        each_item([&](int, const Item& item) { prefetch_part(context_of(item.token), item.part); });
        auto norm = [&](int word) { return reinterpret_cast<const u32*>(words[word - INPUT_NORM]); };
        const float* down = of_token(AT_DOWN, kept_token);
        const float* out = of_token(AT_OUT, kept_token);
#pragma unroll 1
        for (int kind = QKV; kind <= DOWN; kind++) {
            if (kind == QKV || kind == GATE_UP) {
                if (!keeps) {
                } else if (kind == QKV && layer == 0) {
                    add_and_normalize<QKV, NOTHING>(nullptr, nullptr, norm(INPUT_NORM), residual, reduce, normalized, sums);
                } else if (kind == QKV) {
                    add_and_normalize<QKV, DOWN>(down, norm(MLP_OUT_NORM - KEPT_WORDS),
                                                                    norm(INPUT_NORM), residual, reduce, normalized, sums);
                } else {
                    add_and_normalize<GATE_UP, OUT>(out, norm(ATTENTION_OUT_NORM), norm(MLP_NORM),
                                                                       residual, reduce, normalized, sums);
                }
                wait_for_normalized();
            }
            const int at = kind == OUT ? AT_MIXED : kind == DOWN ? AT_ACTIVATED : AT_NORMALIZED;
#pragma unroll 1
            for (int slice = 0; slice < Line::slices(kind); slice++) {
                copy_slice<BITS, GROUP>(Line::of(kind), scratch + at, slice, input, sums);
                account.charge(COPY);
                multiply_tiles<BITS, GROUP>(stream, Line::of(kind), input, sums, ring, pieces, slice);
                account.charge(MULTIPLY);
            }
            if (kind == QKV) {
                gather<QKV>(pieces, [&](int token, int block, int row, float sum) {
                    write_partial<QKV>(of_token(AT_QKV, token), block, row, sum);
                });
                account.charge(GATHER);
                wait();
                attend_items(words, items, context_of, each_item, scratch, shared + AT_INPUT, shares.is_last);
                account.charge(ATTEND);
            } else if (kind == OUT) {
                gather<OUT>(pieces, [&](int token, int block, int row, float sum) {
                    write_partial<OUT>(of_token(AT_OUT, token), block, row, sum);
                });
            } else if (kind == GATE_UP) {
                gather<GATE_UP>(pieces, [&](int token, int block, int row, float gate, float up) {
                    u16* activated = reinterpret_cast<u16*>(of_token(AT_ACTIVATED, token));
                    activated[permuted<BITS>(block * 8 + row)] = to_bf16(activate(gate) * up);
                });
            } else {
                gather<DOWN>(pieces, [&](int token, int block, int row, float sum) {
                    write_partial<DOWN>(of_token(AT_DOWN, token), block, row, sum);
                });
            }
            if (kind != QKV) account.charge(GATHER);
            wait();
        }
    }

    if (keeps) {
        const u32* before = reinterpret_cast<const u32*>(table[(LAYERS - 1) * LAYER_WORDS + MLP_OUT_NORM]);
        add_and_normalize<LOGITS, DOWN>(of_token(AT_DOWN, kept_token), before,
                                                           reinterpret_cast<const u32*>(last[FINAL_NORM]), residual,
                                                           reduce, normalized, sums);
    }
    wait_for_normalized();
#pragma unroll 1
    for (int slice = 0; slice < Product<LOGITS>::SLICES; slice++) {
        copy_slice<LM_HEAD_BITS, LM_HEAD_GROUP>(Line::of_kind<LOGITS>(), scratch + AT_NORMALIZED, slice, input, sums);
        account.charge(COPY);
        multiply_tiles<LM_HEAD_BITS, LM_HEAD_GROUP>(stream, Line::of_kind<LOGITS>(), input, sums, ring, pieces, slice);
        account.charge(MULTIPLY);
    }
    gather<LOGITS>(pieces, [&](int token, int block, int row, float sum) {
        write_logit(logits + (u64)token * VOCAB, block, row, sum);
    });
    account.charge(GATHER);
    account.write(scratch);
    if (blockIdx.x == 0 && threadIdx.x == 0) *done = 1;
    barrier.leave();
}
