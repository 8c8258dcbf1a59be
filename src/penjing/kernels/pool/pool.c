/* @STEM@_pool.c: made by penjing; a small pool of threads for @STEM@_run_part, in memory that the caller owns.
 *
 * Threads wait for work and for each other by reading a number over and over, for as long as a few calls take, and then
 * let others run or sleep. Nothing but the time of a call depends on the number of threads.
 */
#define _POSIX_C_SOURCE 200112L
#include <pthread.h>
#include <sched.h>

#include "@STEM@.h"

enum { POOL_PATIENCE = 20000, POOL_SPINS = 2000 };

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t threads[@UP@_THREADS];
    unsigned job, phase; /* how many calls were begun, and how often all have met */
    int arrived, parts, started, sleeping, stop;
    const void *weights, *in;
    void *out, *arena, *state;
};

struct pool_member {
    struct pool *pool;
    int part;
};

/* The caller's memory: the pool and one member for each thread. */
struct pool_memory {
    struct pool pool;
    struct pool_member members[@UP@_THREADS];
};

typedef char pool_fits[sizeof(struct pool_memory) <= @UP@_POOL_BYTES ? 1 : -1];

static void pool_meet(void *context)
{
    struct pool *pool = context;
    const unsigned phase = __atomic_load_n(&pool->phase, __ATOMIC_ACQUIRE);
    int spins = 0;
    if (__atomic_add_fetch(&pool->arrived, 1, __ATOMIC_ACQ_REL) == pool->parts) {
        __atomic_store_n(&pool->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&pool->phase, phase + 1, __ATOMIC_RELEASE);
        return;
    }
    while (__atomic_load_n(&pool->phase, __ATOMIC_ACQUIRE) == phase)
        if (++spins > POOL_SPINS)
            sched_yield();
}

static int pool_share(struct pool *pool, int part)
{
    return @STEM@_run_part(@WEIGHTS@pool->in, pool->out, pool->arena@STATE@, part, pool->parts, pool_meet, pool);
}

/* Returns when there is a job after number `done`, or the pool stops. */
static void pool_wait(struct pool *pool, unsigned done)
{
    int patience;
    for (patience = 0; patience < POOL_PATIENCE; patience++)
        if (__atomic_load_n(&pool->job, __ATOMIC_ACQUIRE) != done)
            return;
    pthread_mutex_lock(&pool->lock);
    pool->sleeping++;
    while (__atomic_load_n(&pool->job, __ATOMIC_ACQUIRE) == done)
        pthread_cond_wait(&pool->wake, &pool->lock);
    pool->sleeping--;
    pthread_mutex_unlock(&pool->lock);
}

static void *pool_work(void *argument)
{
    const struct pool_member *member = argument;
    struct pool *pool = member->pool;
    unsigned done;
    for (done = 0;; done++) {
        pool_wait(pool, done);
        if (pool->stop)
            return 0;
        pool_share(pool, member->part);
    }
}

static void pool_begin(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    __atomic_store_n(&pool->job, pool->job + 1, __ATOMIC_RELEASE);
    if (pool->sleeping)
        pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}

int @STEM@_pool_start(void *memory, int threads)
{
    struct pool_memory *all = memory;
    struct pool *pool = memory;
    if (!memory)
        return @UP@_ERROR_NULL;
    if (threads < 1 || threads > @UP@_THREADS)
        return @UP@_ERROR_PART;
    pool->job = pool->phase = 0;
    pool->arrived = pool->sleeping = pool->stop = 0;
    pool->parts = threads;
    if (pthread_mutex_init(&pool->lock, 0) || pthread_cond_init(&pool->wake, 0))
        return @UP@_ERROR_THREADS;
    for (pool->started = 1; pool->started < threads; pool->started++) {
        struct pool_member *member = &all->members[pool->started];
        member->pool = pool, member->part = pool->started;
        if (pthread_create(&pool->threads[pool->started], 0, pool_work, member)) {
            @STEM@_pool_stop(memory);
            return @UP@_ERROR_THREADS;
        }
    }
    return 0;
}

int @STEM@_pool_run(void *memory, @PARAMETERS@)
{
    struct pool *pool = memory;
    int status;
    if (!memory)
        return @UP@_ERROR_NULL;
    /* what only one thread would find wrong would leave it waiting for the others */
    status = @STEM@_run_part(@ARGUMENTS@, -1, 0, 0, 0);
    if (status != @UP@_ERROR_PART)
        return status;
    @KEEP_WEIGHTS@pool->in = in, pool->out = out, pool->arena = arena@KEEP_STATE@;
    pool_begin(pool);
    return pool_share(pool, 0);
}

void @STEM@_pool_stop(void *memory)
{
    struct pool *pool = memory;
    int i;
    pool->stop = 1;
    pool_begin(pool);
    for (i = 1; i < pool->started; i++)
        pthread_join(pool->threads[i], 0);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
}
