/* Parts of a job on several threads.
 *
 * torch's own OpenMP runtime is used if its address was given: a second pool of threads would spin
 * against torch's between operations, and its threads are awake already. Whoever comes takes the
 * next part, so it is correct with fewer threads than asked for (nested regions, thread limits).
 * Without a runtime, or in a process forked from one that used it (its threads are gone there, and
 * libgomp waits for them forever), plain threads are started for the call: about 20 us each, no
 * state to keep, nothing to clean up.
 */
#include "kernel.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

typedef void gomp_parallel_function(void (*)(void *), void *, unsigned, unsigned);

static gomp_parallel_function *gomp_parallel;
static long gomp_process;

typedef struct {
    void (*work)(void *, int);
    void *job;
    int parts;
    atomic_int next;
} region;

static void take_parts(void *argument) {
    region *r = argument;
    for (int part; (part = atomic_fetch_add(&r->next, 1)) < r->parts;) r->work(r->job, part);
}

void bptt_use_gomp(void *address) {
    gomp_parallel = (gomp_parallel_function *)address;
    gomp_process = (long)getpid();
}

static void *take_parts_thread(void *argument) {
    take_parts(argument);
    return NULL;
}

#define MOST_STARTED 256

void bptt_parallel(void (*work)(void *, int), void *job, int parts, int threads) {
    region r = {work, job, parts, 0};
    if (threads > parts) threads = parts;
    if (threads <= 1) {
        take_parts(&r);
    } else if (gomp_parallel && gomp_process == (long)getpid()) {
        gomp_parallel(take_parts, &r, (unsigned)threads, 0);
    } else {
        pthread_t started[MOST_STARTED];
        int count = 0;
        while (count < threads - 1 && count < MOST_STARTED &&
               pthread_create(&started[count], NULL, take_parts_thread, &r) == 0)
            count++;
        take_parts(&r);
        for (int i = 0; i < count; i++) pthread_join(started[i], NULL);
    }
}
