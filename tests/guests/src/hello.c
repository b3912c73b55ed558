/* Prints one line and ends the machine. */
#include "guest.h"

int main(void)
{
    put_text("hello from " BOARD "\n");
    return 0;
}
