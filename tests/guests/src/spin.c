/* Never ends and never sleeps: for stop, kick, reset and unplug. The counter is in memory and in a register. */
#include "guest.h"

volatile u32 spins;

int main(void)
{
    put_text("spin\n");
    for (;;)
        spins++;
}
