/* A driver of a virtio disk over MMIO at 0x10001000 that breaks the rules of its queue as it is told: a letter comes in, a line goes
 * out. "g N\n" is a good request for sector N after a reset of the device; the others are in `offer`. */
#include "guest.h"

#define DISK 0x10001000u
#define SIZE 8
#define NEXT 1
#define WRITE 2
#define INDIRECT 4
#define NEEDS_RESET 64

struct descriptor { u64 addr; u32 len; u16 flags, next; };
static struct descriptor table[SIZE] __attribute__((aligned(16)));
static struct { u16 flags, idx, ring[SIZE]; } offered __attribute__((aligned(2)));
static struct { u16 flags, idx; struct { u32 id, len; } ring[SIZE]; } used __attribute__((aligned(4)));
static struct { u32 type, reserved; u64 sector; } head;
static u8 data[512];
static u8 status;

static void set(u32 at, u32 value) { put32(DISK + at, value); }
static u32 get(u32 at) { return get32(DISK + at); }

static void set64(u32 at, const volatile void *p)
{
    set(at, (u32)(uptr)p);
    set(at + 4, (u32)((u64)(uptr)p >> 32));
}

static void up(void)
{
    set(0x70, 0);
    while (get(0x70))
        ;
    offered.idx = used.idx = 0;
    set(0x70, 3);
    set(0x24, 0);
    set(0x20, 0);
    set(0x24, 1);
    set(0x20, 1);               /* VIRTIO_F_VERSION_1 */
    set(0x70, 11);
    set(0x30, 0);
    set(0x38, SIZE);
    set64(0x80, table);
    set64(0x90, &offered);
    set64(0xa0, &used);
    set(0x44, 1);
    set(0x70, 15);
}

static void describe(u32 n, const volatile void *p, u32 len, u16 flags, u16 next)
{
    table[n] = (struct descriptor){(u64)(uptr)p, len, flags, next};
}

static void request(u32 sector)
{
    head.type = 0;
    head.sector = sector;
    status = 0xff;
    describe(0, &head, 16, NEXT, 1);
    describe(1, data, sizeof data, NEXT | WRITE, 2);
    describe(2, &status, 1, WRITE, 0);
}

static void offer(int what)
{
    u16 first = 0;
    request(0);
    switch (what) {
    case 'l': table[2].flags |= NEXT; break;                    /* a loop */
    case 'n': table[1].next = 0xffff; break;                    /* out of the table */
    case 'h': first = SIZE; break;                              /* so is the head */
    case 'a': table[1].addr = 0xfffffffffffffff8; break;        /* the end of the world */
    case 'm': table[1].addr = DISK; break;                      /* the device's own registers */
    case 'w': table[1].len = 0xffffffff; break;                 /* a wild length */
    case 'i': table[0].flags = INDIRECT; break;                 /* indirect, which was not agreed on */
    case 'o': table[0].flags |= WRITE; break;                   /* a header that the device is to write */
    case 'j': offered.idx += SIZE; break;                       /* an index that jumps */
    }
    offered.ring[offered.idx % SIZE] = first;
    barrier();
    offered.idx++;
    barrier();
    set(0x50, 0);
}

int main(void)
{
    put_text("hostile\n");
    for (;;) {
        int c;
        u32 sector = 0;
        while ((c = get_char()) < 0 || c == '\n')
            ;
        up();
        if (c == 'g') {
            while ((c = get_char()) != '\n')
                if (c >= '0' && c <= '9')
                    sector = sector * 10 + (u32)(c - '0');
            request(sector);
            offered.ring[0] = 0;
            barrier();
            offered.idx = 1;
            barrier();
            set(0x50, 0);
            while (!*(volatile u16 *)&used.idx && !(get(0x70) & NEEDS_RESET))
                ;
            barrier();
            put_text("status ");
            put_dec(*(volatile u8 *)&status);
            put_text(" data ");
            put_dec(*(volatile u8 *)data);
            put_text("\n");
            continue;
        }
        offer(c);
        while (!*(volatile u16 *)&used.idx && !(get(0x70) & NEEDS_RESET))
            ;
        put_text(get(0x70) & NEEDS_RESET ? "needs reset, interrupt " : "done, interrupt ");
        put_dec(get(0x60));
        put_text("\n");
    }
}
