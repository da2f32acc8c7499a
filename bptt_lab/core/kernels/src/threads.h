/* One parallel region for the whole sequence. */
#ifndef BPTT_THREADS_H
#define BPTT_THREADS_H

/* Call work(job, part) once for each part < parts, on up to `threads` threads, and wait. */
void bptt_parallel(void (*work)(void *job, int part), void *job, int parts, int threads);

#endif
