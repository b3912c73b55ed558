/* A driver for one hot-plug slot, as PCI Express 4.0, section 6.7, has it: the port at 00:01.0, interrupts by INTA.
 *
 *   off   button: blink, wait, power on; the link comes up, the card is set up, the indicator is lit
 *   on    button: blink, wait, take the card down, power off; the indicator is dark
 *
 * The wait, in which a second press would change one's mind, is short here. "d" makes the driver deaf to buttons, "h" hearing
 * again (it takes the press that came meanwhile), "o" powers off unasked, "q" ends.
 */
#include "guest.h"

#define PORT (ECAM + (1u << 15))                /* 00:01.0 */
#define CARD (ECAM + (1u << 20))                /* 01:00.0 */

#define SLOT_CONTROL 0x18
#define SLOT_STATUS  0x1a
#define LINK_STATUS  0x12
#define PRESSED  0x01
#define CHANGED  0x08
#define DONE     0x10
#define PRESENT  0x40
#define ENABLES  0x39                           /* button, presence, command completed; interrupts at all */
#define LIT      0x100
#define BLINKING 0x200
#define DARK     0x300
#define OFF      0x400
#define ACTIVE   0x2000
#define WAIT     (TIMER_HZ / 50)

static uptr slot;
static volatile u32 events, interrupts;

static u16 get16(uptr a) { return *(volatile u16 *)a; }
static void put16(uptr a, u16 v) { *(volatile u16 *)a = v; }

void trap(uptr cause, uptr pc, uptr value)
{
    (void)cause;
    (void)pc;
    (void)value;
    u16 status = get16(slot + SLOT_STATUS) & 0x1f;
    events |= status;
    interrupts++;
    put16(slot + SLOT_STATUS, status);
}

static u32 taken(u32 wanted)
{
    irq_off();
    u32 found = events & wanted;
    events &= ~wanted;
    irq_on();
    return found;
}

static void await(u32 wanted)
{
    while (!taken(wanted))
        ;
}

static void command(u16 bits)
{
    taken(DONE);
    put16(slot + SLOT_CONTROL, ENABLES | bits);
    await(DONE);
}

static void pause(void)
{
    for (u32 start = get32(MTIME); get32(MTIME) - start < WAIT;)
        ;
}

static void find_slot(void)
{
    u32 at = get8(PORT + 0x34);
    while (get8(PORT + at) != 0x10)
        at = get8(PORT + at + 1);
    slot = PORT + at;
}

static void up(void)
{
    command(OFF | BLINKING);
    pause();
    command(BLINKING);
    while (!(get16(slot + LINK_STATUS) & ACTIVE))
        ;
    put_text("card ");
    put_hex32(get32(CARD));
    /* BAR 4 is 64 bits wide in a virtio function: where it asks, the port's window. */
    put32(CARD + 0x20, MMIO);
    put32(CARD + 0x24, 0);
    put16(CARD + 4, 6);
    u32 lost = get32(CARD) == 0xffffffff;
    command(LIT);
    put_text(lost ? " lost\n" : " up\n");     /* once it is lit: until then a request to remove it is refused */
}

static void down(const char *why)
{
    command(BLINKING);
    pause();
    put16(CARD + 4, 0);
    put_text("card down ");
    put_text(why);
    command(OFF | DARK);
    taken(CHANGED);
    put_text(get32(CARD) == 0xffffffff && !(get16(slot + SLOT_STATUS) & PRESENT) ? " gone\n" : " still there\n");
}

int main(void)
{
    u32 on = 0, deaf = 0;
    find_slot();
    put32(PORT + 0x18, 0x00010100);             /* secondary and last bus: 1 */
    put32(PORT + 0x20, (MMIO >> 16 & 0xfff0) * 0x10001);
    put16(PORT + 4, 6);
    put16(slot + SLOT_STATUS, 0x1f);
    asm volatile("csrs mie, %0" :: "r"(1u << 11));
    irq_on();
    on = !(get16(slot + SLOT_CONTROL) & OFF);
    put16(slot + SLOT_CONTROL, ENABLES | (on ? LIT : OFF | DARK));
    put_text(on ? "slot on\n" : "slot off\n");
    for (;;) {
        int typed = get_char();
        if (typed == 'q')
            finish(0);
        if (typed == 'd' || typed == 'h') {
            deaf = typed == 'd';
            put_text(deaf ? "deaf\n" : "hearing\n");
        }
        if (!deaf && taken(PRESSED)) {
            if (on)
                down("asked");
            else
                up();
            on = !on;
        }
        if (typed == 'o' && on) {
            down("unasked");
            on = 0;
        }
    }
}
