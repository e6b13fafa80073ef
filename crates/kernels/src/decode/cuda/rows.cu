// A token of each of many sequences through the whole model, in one launch that reads the weights once.
//
// As `tokens.cu`, with the same sums in the same order; but a thread block has only some columns of a product, in many
// rows, since not all that the tokens have would fit into shared memory, and what it sums up lies in device memory for
// whoever wants it. Residual streams and rotations are there too.

/// Adds what the product FROM has left to the residual streams that this block keeps, and leaves them normalized for
/// the product KIND. A function of its own, as `attend_rows` is.
template <int KIND, int FROM>
__device__ __noinline__ void normalize_rows(int at, const u32* before, const u32* after, u32* scratch,
                                            unsigned char* shared) {
    const Place* places = reinterpret_cast<const Place*>(shared + ROWS_AT_PLACES);
#pragma unroll 1
    for (int token = blockIdx.x; token < TOKENS; token += GRID) {
        if (places[token].position < 0) continue;
        u32* own = scratch + token * TOKEN_STRIDE;
        float* sums = reinterpret_cast<float*>(shared + ROWS_AT_INPUTS);
        if constexpr (FROM != NOTHING) {
            const float* partials = reinterpret_cast<const float*>(own + at);
#pragma unroll 2
            for (int i = threadIdx.x; i < HIDDEN / 4; i += THREADS) {
                float4 sum = row_sum<FROM, float4>(partials, 0, 4 * i);
#pragma unroll
                for (int p = 1; p < Product<FROM>::PARTIALS; p++)
                    if (has_part<FROM>(p, 4 * i)) add_to(sum, row_sum<FROM, float4>(partials, p, 4 * i));
                reinterpret_cast<float4*>(sums)[i] = sum;
            }
            __syncthreads();
        }
        add_and_normalize<KIND, FROM>(sums, before, after, reinterpret_cast<float*>(own + AT_STREAM),
                                      reinterpret_cast<float*>(shared), reinterpret_cast<u16*>(own + AT_NORMALIZED),
                                      nullptr);
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
    __shared__ u32 flag;
    const u64* last = table + LAYERS * LAYER_WORDS;

    keep_matrices(table, last, matrices);
    if (threadIdx.x == 0) {
        int* to = reinterpret_cast<int*>(places);
        PUT_PLACES(to)
    }
    __syncthreads();
    if (threadIdx.x / 32 < 2) count_parts(places, threadIdx.x / 32, starts + threadIdx.x / 32 * (TOKENS + 1));
    Weights weights(matrices, shared);
    weights.begin_all();
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
            multiply_rows<BITS, GROUP, OUT>(weights, kind, scratch + from, reinterpret_cast<float*>(scratch + to), nullptr,
                                            shared);
            account.charge(MULTIPLY);
        };
#pragma unroll 1
        for (int kind = QKV; kind <= DOWN; kind++) {
            if (kind == GATE_UP) {
                normalize_rows<GATE_UP, OUT>(AT_OUT, norm(ATTENTION_OUT_NORM), norm(MLP_NORM), scratch, shared);
                wait_for_normalized();
                multiply_rows<BITS, GROUP, GATE_UP>(weights, kind, scratch + AT_NORMALIZED,
                                                    reinterpret_cast<float*>(scratch + AT_GATED), nullptr, shared);
                account.charge(MULTIPLY);
                activate_rows(scratch, places, &flag);
                account.charge(GATHER);
                wait();
                continue;
            }
            multiply_shared(kind, kind == QKV ? AT_NORMALIZED : kind == OUT ? AT_MIXED : AT_ACTIVATED,
                            kind == QKV ? AT_QKV : kind == OUT ? AT_OUT : AT_DOWN);
            if (kind == QKV) {
                barrier.arrive();
                const Attention attention(table, caches, scratch, shared, layer);
                attention.find(attention.begin);
                barrier.wait_for_all();
                account.charge(WAIT);
                attend_rows(table, caches, scratch, shared, layer);
                account.charge(ATTEND);
            }
            wait();
        }
    }

    normalize_rows<LOGITS, DOWN>(AT_DOWN,
                                 reinterpret_cast<const u32*>(table[(LAYERS - 1) * LAYER_WORDS + MLP_OUT_NORM]),
                                 reinterpret_cast<const u32*>(last[FINAL_NORM]), scratch, shared);
    wait_for_normalized();
    multiply_rows<LM_HEAD_BITS, LM_HEAD_GROUP, LOGITS>(
        weights, LOGITS, scratch + AT_NORMALIZED, nullptr, logits, shared);
    account.charge(MULTIPLY);
    account.write(scratch);
    if (blockIdx.x == 0 && threadIdx.x == 0) *done = 1;
    barrier.leave();
}
