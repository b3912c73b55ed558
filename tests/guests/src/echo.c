/* Answers every line that comes in with the same line in capitals; "q" ends the machine, "r" resets it. */
#include "guest.h"

/* By the finisher, a little-endian device. */
static void start_anew(void)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    put32(FINISHER, 0x77770000);
#else
    put32(FINISHER, 0x7777);
#endif
    for (;;)
        sleep();
}

int main(void)
{
    char line[128];
    u32 n = 0;
    put_text("echo\n");
    for (;;) {
        int c = get_char();
        if (c < 0)
            continue;
        if (c != '\n' && c != '\r') {
            if (n < sizeof line - 1)
                line[n++] = (char)(c >= 'a' && c <= 'z' ? c - 32 : c);
            continue;
        }
        line[n] = 0;
        put_text(line);
        put_text("\n");
        if (n == 1 && line[0] == 'Q')
            return 0;
        if (n == 1 && line[0] == 'R')
            start_anew();
        n = 0;
    }
}
