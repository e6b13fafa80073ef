// A token of each of many sequences through the whole model, in one launch that reads the weights once.
//
// As `tokens.cu`, with the same sums in the same order; but what the tokens have in the columns of a tile comes
// through shared memory beside the tiles, for eight row blocks at a time, since all of it would neither fit there
// nor come in the time of the weights. Residual streams and rotations are in device memory.

/// Adds what the product FROM has left to the residual streams that this block keeps, and leaves them normalized for
/// the product KIND. A function of its own, as `attend_rows` is.
template <int KIND, int FROM>
__device__ __noinline__ void normalize_rows(int at, const u32* before, const u32* after, u32* scratch,
                                            unsigned char* shared) {
    const Place* places = reinterpret_cast<const Place*>(shared + ROWS_AT_PLACES);
#pragma unroll 1
    for (int token = blockIdx.x; token < TOKENS; token += GRID) {
        u32* own = scratch + token * TOKEN_STRIDE;
        if (places[token].position >= 0)
            add_and_normalize<KIND, FROM>(reinterpret_cast<const float*>(own + at), before, after,
                                          reinterpret_cast<float*>(own + AT_STREAM), reinterpret_cast<float*>(shared),
                                          reinterpret_cast<u16*>(own + AT_NORMALIZED), nullptr);
        __syncthreads();
    }
}

/// `tokens`: int32 [TOKENS]; `caches`: for each token, the addresses of the keys and of the values of each
/// layer; `logits`: float32 [TOKENS, VOCAB]. The others are those of `decode_token`, with the numbers of a `Place` for
/// each token: the host defines PLACES, these parameters, and PUT_PLACES(to), which puts them there.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    decode_rows(const int* tokens, const u64* table, const u64* caches, u32* scratch, const unsigned char* /*after*/,
                float* logits, unsigned char* done, PLACES) {
    extern __shared__ __align__(128) unsigned char shared[];
    u64* matrices = reinterpret_cast<u64*>(shared + ROWS_AT_MATRICES);
    Place* places = reinterpret_cast<Place*>(shared + ROWS_AT_PLACES);
    int* starts = reinterpret_cast<int*>(shared + ROWS_AT_STARTS);
    const u64* last = table + LAYERS * LAYER_WORDS;

    keep_matrices(table, last, matrices);
    if (threadIdx.x == 0) {
        int* to = reinterpret_cast<int*>(places);
        PUT_PLACES(to)
    }
    __syncthreads();
    if (threadIdx.x / 32 < 2) count_parts(places, threadIdx.x / 32, starts + threadIdx.x / 32 * (TOKENS + 1));
#pragma unroll 1
    for (int kind = QKV; kind <= LOGITS; kind++) {
        Stage* list = reinterpret_cast<Stage*>(shared + ROWS_AT_LIST);
        list_stages(kind, list, reinterpret_cast<int*>(list + LISTED_UP_TO[5]));
    }
    Pipe pipe(matrices, shared);
    pipe.start();
    Barrier barrier(scratch + AT_COUNTERS);
    Account account;
    auto wait = [&] {
        barrier.wait();
        account.charge(WAIT);
    };
    auto of_token = [&](int at, int token) { return scratch + at + token * TOKEN_STRIDE; };
    auto each_kept = [&](auto work) {
#pragma unroll 1
        for (int token = blockIdx.x; token < TOKENS; token += GRID) {
            if (places[token].position >= 0) work(token);
            __syncthreads();
        }
    };
    const u32 makers = smaller(TOKENS, GRID);
    const bool is_maker = blockIdx.x < makers;
    auto wait_for_normalized = [&] {
        account.charge(NORMALIZE);
        barrier.wait_for(makers, is_maker);
        account.charge(WAIT);
    };

    each_kept([&](int token) {
        const int position = places[token].position;
        float2* rotation = reinterpret_cast<float2*>(of_token(AT_TURNS, token));
        rotation_at(position, POSITION_SCALE, reinterpret_cast<const float*>(last[PERIODS]), rotation);
        if (ROTATIONS == 2)
            rotation_at(position, RING_POSITION_SCALE, reinterpret_cast<const float*>(last[RING_PERIODS]),
                        rotation + HEAD_DIM / 2);
        embed(tokens[token], last + EMBEDDING, reinterpret_cast<float*>(of_token(AT_STREAM, token)));
    });
    auto nothing = [](int, Sums&) {};

#pragma unroll 1
    for (int layer = 0; layer < LAYERS; layer++) {
        const u64* words = table + layer * LAYER_WORDS + INPUT_NORM;
        if (layer + 1 < LAYERS && blockIdx.x == GRID - 1) prefetch_norms(words + LAYER_WORDS);
        auto norm = [&](int word) { return reinterpret_cast<const u32*>(words[word - INPUT_NORM]); };
        if (layer == 0) {
            normalize_rows<QKV, NOTHING>(AT_DOWN, nullptr, norm(INPUT_NORM), scratch, shared);
        } else {
            normalize_rows<QKV, DOWN>(AT_DOWN, norm(MLP_OUT_NORM - LAYER_WORDS), norm(INPUT_NORM), scratch, shared);
        }
        wait_for_normalized();
        auto multiply_shared = [&](int kind, int from, int to) {
            multiply_rows<BITS, GROUP, OUT>(pipe, kind, scratch + from, reinterpret_cast<float*>(scratch + to), scratch,
                                             shared, nothing);
            account.charge(MULTIPLY);
            wait();
        };
#pragma unroll 1
        for (int kind = QKV; kind <= DOWN; kind++) {
            if (kind == GATE_UP) {
                normalize_rows<GATE_UP, OUT>(AT_OUT, norm(ATTENTION_OUT_NORM), norm(MLP_NORM), scratch, shared);
                wait_for_normalized();
                multiply_rows<BITS, GROUP, GATE_UP>(pipe, kind, scratch + AT_NORMALIZED, nullptr, scratch, shared,
                                                  [&](int block, Sums& sums) { activate_rows(scratch, block, sums); });
                account.charge(MULTIPLY);
                wait();
                continue;
            }
            multiply_shared(kind, kind == QKV ? AT_NORMALIZED : kind == OUT ? AT_MIXED : AT_ACTIVATED,
                            kind == QKV ? AT_QKV : kind == OUT ? AT_OUT : AT_DOWN);
            if (kind == QKV) {
                attend_rows(table, caches, scratch, shared, layer);
                account.charge(ATTEND);
                wait();
            }
        }
    }

    normalize_rows<LOGITS, DOWN>(AT_DOWN,
                                 reinterpret_cast<const u32*>(table[(LAYERS - 1) * LAYER_WORDS + MLP_OUT_NORM]),
                                 reinterpret_cast<const u32*>(last[FINAL_NORM]), scratch, shared);
    wait_for_normalized();
    multiply_rows<LM_HEAD_BITS, LM_HEAD_GROUP, LOGITS>(
        pipe, LOGITS, scratch + AT_NORMALIZED, nullptr, scratch, shared,
        [&](int block, Sums& sums) { write_logits(logits, block, sums); });
    account.charge(MULTIPLY);
    account.write(scratch);
    if (blockIdx.x == 0 && threadIdx.x == 0) *done = 1;
    barrier.leave();
}
