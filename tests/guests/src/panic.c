/* mtvec points at nothing and then an illegal instruction: the CPU can't fetch its own trap handler. */
#include "guest.h"

int main(void)
{
    put_text("panic\n");
    asm volatile("csrw mtvec, %0\n\t.4byte 0" :: "r"((uptr)0x40000000));
    put_text("still here\n");
    return 0;
}
