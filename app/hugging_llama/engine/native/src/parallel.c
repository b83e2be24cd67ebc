#define _GNU_SOURCE /* thread names, system calls */

#include "parallel.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "simd.h"

/* A decode step has over a hundred loops with 10 to 40 us of Python between two of them, and to wake a sleeper takes
 * 40 us. So a thread that waits pauses first, then lets others run between two looks, and sleeps only after that.
 * Who merely paused for as long would have used up its time slice, beside a busy process, when there is work. */
enum { PAUSE_NS = 5000, AWAKE_NS = 150000, PAUSES_PER_LOOK_AT_CLOCK = 32 };

/* One word says what a loop has left: seats for workers, above the tasks that nobody has drawn. As both change
 * together, who has drawn a task sits in the loop that the task is of, and that loop can't end before he leaves. */
#define SEAT ((uint64_t)1 << 48)
enum { MOST_WORKERS = 1023 };

static struct pool {
    /* the loop; changes only while nobody sits in it */
    task_function run;
    void *context;
    int64_t num_tasks;

    atomic_flag is_taken; /* by the thread whose loop it is */
    int64_t num_workers;
    alignas(64) _Atomic uint64_t left;     /* seats and tasks */
    alignas(64) _Atomic uint32_t num_gone; /* workers that sat in this loop and have left it; a futex */
    _Atomic uint32_t is_awaited;           /* the caller sleeps until num_gone changes */
    alignas(64) _Atomic uint32_t num_calls; /* for sleeping workers; a futex */
    _Atomic uint32_t num_asleep;
} pool = {.is_taken = ATOMIC_FLAG_INIT};

static void futex(_Atomic uint32_t *word, int operation, uint32_t value) {
    syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

static int64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000 + time.tv_nsec;
}

/* Waits awake until `is_met(argument)`. False: it took so long that the thread should sleep. */
static bool wait_awake(bool (*is_met)(uint64_t), uint64_t argument) {
    const int64_t start = now_ns();
    do {
        for (int i = 0; i < PAUSES_PER_LOOK_AT_CLOCK; i++) {
            if (is_met(argument)) return true;
            _mm_pause();
        }
    } while (now_ns() - start < PAUSE_NS);
    while (now_ns() - start < AWAKE_NS) {
        sched_yield();
        if (is_met(argument)) return true;
    }
    return false;
}

/* Whether a task can be drawn by who must take `seats` for it. */
static bool has_task(uint64_t left, uint64_t seats) {
    return left % SEAT > 0 && left / SEAT >= seats;
}

static bool can_join(uint64_t seats) {
    return has_task(atomic_load(&pool.left), seats);
}

static bool have_gone(uint64_t num_workers) {
    return atomic_load(&pool.num_gone) == num_workers;
}

/* The number of a task that is now the caller's, or -1. `seats` is 1 for a worker that does not sit in the loop. */
static int64_t draw(uint64_t seats) {
    uint64_t left = atomic_load_explicit(&pool.left, memory_order_relaxed);
    do {
        if (!has_task(left, seats)) return -1;
    } while (!atomic_compare_exchange_weak_explicit(&pool.left, &left, left - seats * SEAT - 1, memory_order_acquire,
                                                    memory_order_relaxed));
    return pool.num_tasks - (int64_t)(left % SEAT);
}

static void run_tasks(int64_t task) {
    for (; task >= 0; task = draw(0)) pool.run(pool.context, task);
}

static void sleep_until_called(void) {
    const uint32_t seen = atomic_load(&pool.num_calls);
    atomic_fetch_add(&pool.num_asleep, 1);
    /* who publishes a loop looks for sleepers after it, so one of the two sees the other */
    if (!can_join(1)) futex(&pool.num_calls, FUTEX_WAIT, seen);
    atomic_fetch_sub(&pool.num_asleep, 1);
}

static void *work(void *unused) {
    for (;;) {
        if (!wait_awake(can_join, 1)) sleep_until_called();
        const int64_t task = draw(1);
        if (task < 0) continue;
        run_tasks(task);
        atomic_fetch_add(&pool.num_gone, 1);
        if (atomic_load(&pool.is_awaited)) futex(&pool.num_gone, FUTEX_WAKE, 1);
    }
    return unused; /* never; what pthread_create wants */
}

/* A child has none of our threads, and its copy of the pool may be in the middle of a loop. */
static void start_anew(void) {
    pool = (struct pool){.is_taken = ATOMIC_FLAG_INIT};
}

/* Makes the workers that are missing, as far as the system allows. They end with the process. */
static void hire(int64_t num_workers) {
    static bool handles_forks = false;
    if (pool.num_workers >= num_workers) return;
    if (!handles_forks && pthread_atfork(NULL, NULL, start_anew)) return;
    handles_forks = true;
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes)) return;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    /* signals are for the threads that expect them */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    for (; pool.num_workers < num_workers && !pthread_create(&thread, &attributes, work, NULL); pool.num_workers++)
        pthread_setname_np(thread, "kernels");
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

static void share(task_function run, void *context, int64_t num_tasks, int64_t seats) {
    pool.run = run, pool.context = context, pool.num_tasks = num_tasks;
    atomic_store_explicit(&pool.num_gone, 0, memory_order_relaxed);
    atomic_store(&pool.left, (uint64_t)seats * SEAT + (uint64_t)num_tasks);
    if (atomic_load(&pool.num_asleep)) {
        atomic_fetch_add(&pool.num_calls, 1);
        futex(&pool.num_calls, FUTEX_WAKE, (uint32_t)seats);
    }
    run_tasks(draw(0));
    /* nothing is left to draw, so a worker that took no seat will not take one: it is not waited for */
    const uint64_t num_seated = (uint64_t)seats - atomic_load(&pool.left) / SEAT;
    if (wait_awake(have_gone, num_seated)) return;
    atomic_store(&pool.is_awaited, 1);
    for (uint32_t seen; (seen = atomic_load(&pool.num_gone)) != num_seated;) futex(&pool.num_gone, FUTEX_WAIT, seen);
    atomic_store(&pool.is_awaited, 0);
}

void parallel_for(task_function run, void *context, int64_t num_tasks, int64_t num_threads) {
    const int64_t seats = least(least(num_threads, num_tasks) - 1, MOST_WORKERS);
    if (seats < 1 || atomic_flag_test_and_set_explicit(&pool.is_taken, memory_order_acquire)) {
        for (int64_t task = 0; task < num_tasks; task++) run(context, task);
        return;
    }
    hire(seats);
    share(run, context, num_tasks, seats);
    atomic_flag_clear_explicit(&pool.is_taken, memory_order_release);
}
