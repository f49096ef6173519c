/* Threads that go through the same lane side by side, and meet between two of its operations.
 *
 * A meeting takes a microsecond or less, since who waits keeps looking; sleeping and being woken would take as long as
 * several operations. Where a member has to wait long, somebody else wants its processor, and gets it. */
#include <sched.h>

#include "kernels.h"

enum { ARRIVED = 0, MEETINGS = 8 };
/* After so many looks (a tenth of a millisecond or two) others may have the processor between two looks. Not much sooner:
 * whoever gets it keeps it for some milliseconds, while all members wait for this one. */
enum { PATIENCE = 10000 };

static inline void pause_briefly(void) {
#if defined(__x86_64__)
    __asm__ volatile("pause");
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Wait until another thread has written at least `number`; what it wrote before can be read after. */
static inline void await_number(const int64_t *place, int64_t number) {
    for (int64_t looks = 0; __atomic_load_n(place, __ATOMIC_ACQUIRE) < number; pause_briefly())
        if (++looks > PATIENCE) sched_yield();
}
static inline void announce(int64_t *place, int64_t number) { __atomic_store_n(place, number, __ATOMIC_RELEASE); }

/* Wait until all members are here; what each wrote before, all can read after. */
static inline void meet(const Team *team) {
    if (team->size == 1) return;
    int64_t *arrived = team->gate + ARRIVED, *meetings = team->gate + MEETINGS;
    const int64_t following = __atomic_load_n(meetings, __ATOMIC_ACQUIRE) + 1;
    if (__atomic_fetch_add(arrived, 1, __ATOMIC_ACQ_REL) < team->size - 1) {
        await_number(meetings, following);
        return;
    }
    announce(arrived, 0);
    announce(meetings, following);
}

/* A member's part of `count` things. */
static inline int64_t begin_of(const Team *team, int64_t count) { return count * team->number / team->size; }
static inline int64_t end_of(const Team *team, int64_t count) { return count * (team->number + 1) / team->size; }
