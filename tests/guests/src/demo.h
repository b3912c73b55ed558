/* The demo's protocol. Two CPUs of different word size and byte order share RAM and an AXI mailbox (PG114); whatever is in RAM is
   little-endian, a word in the mailbox is a value. ratite/clients/demo.py is the third party and computes the result on its own.

   One round: rv64 writes a block, sends BLOCK|round; mb chains the block's CRC-32 onto its last one, sends BLOCK|round and the CRC;
   rv64 mixes that into the state from which the next block comes. Every `report` rounds rv64 prints a line, then hands the right to
   print to mb with SAY and waits for it to come back. At the end mb prints first. Each CPU's chain starts from the CRC-32 of its own
   image in memory, so one wrong byte of either program changes both results. */
#ifndef DEMO_H
#define DEMO_H

#include "guest.h"

#define SHARED 0x90000000u

/* Written by the client before the start. */
#define CONF_MAGIC  (SHARED + 0x00)
#define CONF_ROUNDS (SHARED + 0x04)
#define CONF_SEED   (SHARED + 0x08)     /* 64 bits */
#define CONF_REPORT (SHARED + 0x10)
#define CONF_BLOCK  (SHARED + 0x14)     /* bytes; a multiple of 8, at most BLOCK_MAX */
#define MAGIC       0x31445452u         /* "RTD1" */

/* Written by the guests at the end: status 1 last. */
#define RV_STATUS   (SHARED + 0x100)
#define RV_ROUNDS   (SHARED + 0x104)
#define RV_CHAIN    (SHARED + 0x108)    /* 64 bits */
#define RV_IMAGE    (SHARED + 0x110)
#define MB_STATUS   (SHARED + 0x140)
#define MB_ROUNDS   (SHARED + 0x144)
#define MB_CRC      (SHARED + 0x148)
#define MB_IMAGE    (SHARED + 0x14c)

#define BLOCK_MAX   0x4000u
#define BLOCK_AT(round) (SHARED + 0x1000 + ((round) & 3) * BLOCK_MAX)

/* Messages: kind in the upper four bits, the round below. */
#define KIND  0xf0000000u
#define BLOCK 0x10000000u
#define SAY   0x20000000u
#define END   0x30000000u

/* The mailbox's registers; each side has its own MBOX. */
#define MBOX_WRITE  0x00
#define MBOX_READ   0x08
#define MBOX_STATUS 0x10
#define MBOX_RIT    0x1c
#define MBOX_IS     0x20
#define MBOX_IE     0x24
#define MBOX_EMPTY  1u
#define MBOX_FULL   2u
#define MBOX_RTI    2u

static inline u32 load_le(uptr at)
{
#ifdef __riscv
    return get32(at);
#else
    return (u32)get8(at) | (u32)get8(at + 1) << 8 | (u32)get8(at + 2) << 16 | (u32)get8(at + 3) << 24;
#endif
}

static inline void store_le(uptr at, u32 v)
{
#ifdef __riscv
    put32(at, v);
#else
    put8(at, (u8)v);
    put8(at + 1, (u8)(v >> 8));
    put8(at + 2, (u8)(v >> 16));
    put8(at + 3, (u8)(v >> 24));
#endif
}

/* CRC-32 as in zlib: chained by handing in the last result. */
static u32 crc_table[256];

static void crc_start(void)
{
    for (u32 i = 0; i < 256; i++) {
        u32 c = i;
        for (u32 b = 0; b < 8; b++)
            c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
        crc_table[i] = c;
    }
}

static NOINLINE u32 crc32(u32 last, uptr at, u32 size)
{
    u32 c = ~last;
    const u8 *p = (const u8 *)at;
    while (size--)
        c = crc_table[(c ^ *p++) & 0xff] ^ c >> 8;
    return ~c;
}

extern u8 __image_start[], __image_end[];

static u32 image_crc(void)
{
    return crc32(0, (uptr)__image_start, (u32)(__image_end - __image_start));
}

/* What the interrupt took out of the mailbox; the main program takes it from here. */
static volatile u32 inbox[16], inbox_in, inbox_out;

static void mbox_drain(void)
{
    /* Clearing after the drain and looking once more loses no word, whether IS follows the level or the crossing. */
    do {
        while (!(get32(MBOX + MBOX_STATUS) & MBOX_EMPTY)) {
            inbox[inbox_in & 15] = get32(MBOX + MBOX_READ);
            inbox_in++;
        }
        put32(MBOX + MBOX_IS, MBOX_RTI);
    } while (!(get32(MBOX + MBOX_STATUS) & MBOX_EMPTY));
}

static void mbox_start(void)
{
    put32(MBOX + MBOX_RIT, 0);
    put32(MBOX + MBOX_IE, MBOX_RTI);
    mbox_drain();
}

static void mbox_send(u32 word)
{
    barrier();
    while (get32(MBOX + MBOX_STATUS) & MBOX_FULL)
        ;
    put32(MBOX + MBOX_WRITE, word);
}

static u32 mbox_wait(void)
{
    while (inbox_out == inbox_in) {
        irq_off();
        if (inbox_out == inbox_in)
            sleep();
        irq_on();
    }
    barrier();
    return inbox[inbox_out++ & 15];
}

#endif
