/* The RV64 side of the demo: makes the blocks and leads. See demo.h. */
#define MBOX 0x10010000u
#include "demo.h"

static void fail(const char *what, u32 got)
{
    put_text("rv64: ");
    put_text(what);
    put_text(" ");
    put_hex32(got);
    put_text("\n");
    finish(2);
}

void trap(uptr cause, uptr pc, uptr value)
{
    if (cause == ((uptr)1 << 63 | 11)) {
        mbox_drain();
        return;
    }
    put_hex64(pc);
    put_hex64(value);
    fail(": trap", (u32)cause);
}

static void expect(u32 word)
{
    u32 got = mbox_wait();
    if (got != word)
        fail("unexpected message", got);
}

static NOINLINE u64 make_block(u64 chain, uptr at, u32 size)
{
    for (volatile u64 *p = (volatile u64 *)at; size; size -= 8) {
        chain = chain * 6364136223846793005ull + 1442695040888963407ull;
        *p++ = chain ^ chain >> 29;
    }
    return chain;
}

int main(void)
{
    crc_start();
    u32 image = image_crc();
    u32 rounds = load_le(CONF_ROUNDS), report = load_le(CONF_REPORT), size = load_le(CONF_BLOCK);
    if (load_le(CONF_MAGIC) != MAGIC || size > BLOCK_MAX || size % 8 || !report)
        fail("bad configuration", load_le(CONF_MAGIC));
    u64 seed = (u64)load_le(CONF_SEED + 4) << 32 | load_le(CONF_SEED);
    u64 chain = seed ^ ((u64)image << 32 | image);

    mbox_start();
    asm volatile("csrs mie, %0" :: "r"(1u << 11));
    irq_on();
    put_text("rv64: ready, seed ");
    put_hex64(seed);
    put_text("\n");

    for (u32 round = 1; round <= rounds; round++) {
        chain = make_block(chain, BLOCK_AT(round), size);
        mbox_send(BLOCK | round);
        expect(BLOCK | round);
        u32 crc = mbox_wait();
        chain ^= (u64)crc << 32 | (crc ^ round);
        if (round % report == 0) {
            put_text("rv64: round ");
            put_dec(round);
            put_text(", chain ");
            put_hex64(chain);
            put_text("\n");
            mbox_send(SAY | round);
            expect(SAY | round);
        }
    }
    mbox_send(END | rounds);
    expect(END | rounds);
    put_text("rv64: RESULT rounds ");
    put_dec(rounds);
    put_text(" chain ");
    put_hex64(chain);
    put_text(" image ");
    put_hex32(image);
    put_text("\n");
    store_le(RV_ROUNDS, rounds);
    store_le(RV_CHAIN, (u32)chain);
    store_le(RV_CHAIN + 4, (u32)(chain >> 32));
    store_le(RV_IMAGE, image);
    barrier();
    store_le(RV_STATUS, 1);
    finish(0);
}
