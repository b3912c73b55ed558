/* The MicroBlaze side of the demo: checksums the blocks, asleep between two interrupts. See demo.h. */
#define MBOX 0x10020000u
#include "demo.h"

#define MBOX_LINE 0

void interrupt(void)
{
    mbox_drain();
    put32(XPS_INTC + 12, 1u << MBOX_LINE);
}

static void fail(const char *what, u32 got)
{
    put_text("mb: ");
    put_text(what);
    put_text(" ");
    put_hex32(got);
    put_text("\n");
    finish(3);
}

int main(void)
{
    crc_start();
    u32 image = image_crc(), crc = image, done = 0;
    u32 size = load_le(CONF_BLOCK);
    if (size > BLOCK_MAX)
        fail("bad configuration", size);

    mbox_start();
    put32(XPS_INTC + 8, 1u << MBOX_LINE);
    put32(XPS_INTC + 28, 3);
    irq_on();

    for (;;) {
        u32 word = mbox_wait(), round = word & ~KIND;
        switch (word & KIND) {
        case BLOCK:
            if (round != ++done)
                fail("unexpected round", word);
            crc = crc32(crc, BLOCK_AT(round), size);
            mbox_send(word);
            mbox_send(crc);
            break;
        case SAY:
            put_text("mb:   round ");
            put_dec(round);
            put_text(", crc ");
            put_hex32(crc);
            put_text("\n");
            mbox_send(word);
            break;
        case END:
            put_text("mb:   RESULT rounds ");
            put_dec(done);
            put_text(" crc ");
            put_hex32(crc);
            put_text(" image ");
            put_hex32(image);
            put_text("\n");
            store_le(MB_ROUNDS, done);
            store_le(MB_CRC, crc);
            store_le(MB_IMAGE, image);
            barrier();
            store_le(MB_STATUS, 1);
            mbox_send(word);
            break;
        default:
            fail("unexpected message", word);
        }
    }
}
