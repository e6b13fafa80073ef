// One token through the whole model, in one launch.
//
// A block stands on each multiprocessor for the whole launch, and the blocks meet at a barrier
// between two products. Every block holds the residual stream; what a product leaves in device
// memory is small and stays in the second-level cache. The weights come as a stream that does not
// stop at barriers (`stream.cuh`), which is why the memory is busy nearly all the time.

/// `table`: LAYERS rows of LAYER_WORDS addresses, then LAST_WORDS. `caches`: the addresses of the keys
/// and of the values of each layer. `after` is not read: it orders this launch behind the one that
/// made it. `logits`: float32 [VOCAB]; `done`: a byte for the next launch to wait for.
/// `ring_*`: where the new key of a sliding-window layer goes, keys held then, places of its buffer.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    decode_token(const int* token, const u64* table, const u64* caches, u32* scratch, const unsigned char* /*after*/,
                 float* logits, unsigned char* done, int position, int capacity, int ring_place, int ring_held,
                 int ring_capacity) {
    extern __shared__ __align__(128) unsigned char shared[];
    float* residual = reinterpret_cast<float*>(shared + AT_RESIDUAL);
    u16* input = reinterpret_cast<u16*>(shared + AT_INPUT);
    float* sums = reinterpret_cast<float*>(shared + AT_SUMS);
    float* pieces = reinterpret_cast<float*>(shared + AT_PIECES);
    float* reduce = reinterpret_cast<float*>(shared + AT_REDUCE);
    u64* matrices = reinterpret_cast<u64*>(shared + AT_TABLE);
    __shared__ u32 flag;
    const u64* last = table + LAYERS * LAYER_WORDS;

    keep_matrices(table, last, matrices);
    u64* kept = matrices + KEPT_MATRICES;
    for (int i = threadIdx.x; i < LAYERS * KEPT_WORDS; i += THREADS) {
        int layer = i / KEPT_WORDS, word = i % KEPT_WORDS;
        kept[i] = word < KEPT_KEYS ? table[layer * LAYER_WORDS + INPUT_NORM + word]
                                   : caches[2 * layer + word - KEPT_KEYS];
    }
    __syncthreads();
    unsigned char* ring = shared + AT_RING;
    Stream stream(matrices, ring);
    stream.start();
    Barrier barrier(scratch + AT_COUNTERS);
    Timeline timeline(scratch);

    float* qkv = reinterpret_cast<float*>(scratch + AT_QKV);
    float* out = reinterpret_cast<float*>(scratch + AT_OUT);
    float* down = reinterpret_cast<float*>(scratch + AT_DOWN);
    u16* activated = reinterpret_cast<u16*>(scratch + AT_ACTIVATED);
    float2* rotation = reinterpret_cast<float2*>(shared + AT_ROTATION);
    rotation_at(position, POSITION_SCALE, reinterpret_cast<const float*>(last[PERIODS]), rotation);
    if (ROTATIONS == 2)
        rotation_at(position, RING_POSITION_SCALE, reinterpret_cast<const float*>(last[RING_PERIODS]),
                    rotation + HEAD_DIM / 2);
    embed(*token, last + EMBEDDING, residual);
    timeline.mark();

#pragma unroll 1
    for (int layer = 0; layer < LAYERS; layer++) {
        const u64* words = kept + layer * KEPT_WORDS;
        const Context context =
            is_ring(layer)
                ? Context{ring_place, ring_held, ring_capacity, rotation + HEAD_DIM / 2, RING_SCORE_SCALE,
                          words[KEPT_KEYS], words[KEPT_VALUES]}
                : Context{position, position + 1, capacity, rotation, SCORE_SCALE, words[KEPT_KEYS], words[KEPT_VALUES]};
        // The next layer's norms, which every block reads at once, and this layer's keys and values.
        if (layer + 1 < LAYERS && blockIdx.x == layer % GRID) prefetch_norms(words + KEPT_WORDS);
        prefetch_part(context, Part(context.held, blockIdx.x));
        auto norm = [&](int word) { return reinterpret_cast<const u32*>(words[word - INPUT_NORM]); };
#pragma unroll 1
        for (int kind = QKV; kind <= DOWN; kind++) {
            if (kind == QKV && layer == 0) {
                add_and_normalize<QKV, NOTHING>(nullptr, nullptr, norm(INPUT_NORM), residual, reduce, input, sums);
            } else if (kind == QKV) {
                add_and_normalize<QKV, DOWN>(down, norm(MLP_OUT_NORM - KEPT_WORDS), norm(INPUT_NORM),
                                                                residual, reduce, input, sums);
            } else if (kind == OUT) {
                copy_input<OUT>(scratch + AT_MIXED, input, sums);
            } else if (kind == GATE_UP) {
                add_and_normalize<GATE_UP, OUT>(out, norm(ATTENTION_OUT_NORM), norm(MLP_NORM),
                                                                   residual, reduce, input, sums);
            } else {
                copy_input<DOWN>(scratch + AT_ACTIVATED, input, sums);
            }
            timeline.mark();
            multiply_tiles<BITS, GROUP>(stream, Line::of(kind), input, sums, ring, pieces);
            timeline.mark();
            if (kind == QKV) {
                gather<QKV>(pieces, [&](int, int block, int row, float sum) { write_partial<QKV>(qkv, block, row, sum); });
                timeline.mark();
                barrier.wait();
                timeline.mark();
                attend_part(words, context, Part(context.held, blockIdx.x), scratch, shared + AT_INPUT, &flag, timeline);
            } else if (kind == OUT) {
                gather<OUT>(pieces, [&](int, int block, int row, float sum) { write_partial<OUT>(out, block, row, sum); });
            } else if (kind == GATE_UP) {
                gather<GATE_UP>(pieces, [&](int, int block, int row, float gate, float up) {
                    activated[permuted<BITS>(block * 8 + row)] = to_bf16(activate(gate) * up);
                });
            } else {
                gather<DOWN>(pieces, [&](int, int block, int row, float sum) { write_partial<DOWN>(down, block, row, sum); });
            }
            timeline.mark();
            barrier.wait();
            timeline.mark();
        }
    }

    const u32* before = reinterpret_cast<const u32*>(table[(LAYERS - 1) * LAYER_WORDS + MLP_OUT_NORM]);
    add_and_normalize<LOGITS, DOWN>(
        down, before, reinterpret_cast<const u32*>(last[FINAL_NORM]), residual, reduce, input, sums);
    timeline.mark();
    multiply_tiles<LM_HEAD_BITS, LM_HEAD_GROUP>(stream, Line::of_kind<LOGITS>(), input, sums, ring, pieces);
    gather<LOGITS>(pieces, [&](int, int block, int row, float sum) {
        write_logit(logits, block, row, sum);
    });
    timeline.mark();
    if (blockIdx.x == 0 && threadIdx.x == 0) *done = 1;
    barrier.leave();
}
