/* Answers every line that comes in with the same line in capitals; "q" ends the machine. */
#include "guest.h"

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
        n = 0;
    }
}
