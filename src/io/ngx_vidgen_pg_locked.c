#include <ngx_config.h>
#include <ngx_core.h>
#include "io/ngx_vidgen_pg_batch.h"
#include "io/ngx_vidgen_pg_locked.h"


#define NGX_VIDGEN_PG_FIRST_TRIES  3     /* before those blocked for longer */


static uint32_t ngx_vidgen_pg_locked_key(ngx_vidgen_pg_call_t *call);
static void ngx_vidgen_pg_locked_add(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_call_t *call);
static void ngx_vidgen_pg_locked_block(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_call_t *call);
static void ngx_vidgen_pg_locked_gather(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_call_t *first, ngx_queue_t *calls);
static void ngx_vidgen_pg_locked_let_go(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_call_t *call);
static void ngx_vidgen_pg_locked_succeed(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_call_t *call);


ngx_vidgen_pg_call_t *
ngx_vidgen_pg_locked_first(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_call_t *call)
{
    uint32_t               key;
    ngx_queue_t           *q;
    ngx_vidgen_pg_call_t  *first;

    if (ngx_queue_empty(&pg->rows) || call->statement->key == 0) {
        return NULL;
    }

    key = ngx_vidgen_pg_locked_key(call);

    for (q = ngx_queue_head(&pg->rows);
         q != ngx_queue_sentinel(&pg->rows);
         q = ngx_queue_next(q))
    {
        first = ngx_queue_data(q, ngx_vidgen_pg_call_t, row);

        if (first->key == key && first->statement == call->statement) {
            return first;
        }
    }

    return NULL;
}


/* equal for the same row, and seldom else, which costs a delay only */

static uint32_t
ngx_vidgen_pg_locked_key(ngx_vidgen_pg_call_t *call)
{
    uint32_t    key;
    ngx_uint_t  i;

    if (call->key) {
        return call->key;
    }

    key = 0;

    for (i = 0; i < call->statement->params; i++) {
        if (call->statement->key & ((ngx_uint_t) 1 << i)) {
            key = key * 31 + ngx_murmur_hash2(call->values[i].data,
                                              call->values[i].len);
        }
    }

    call->key = key ? key : 1;

    return call->key;
}


ngx_uint_t
ngx_vidgen_pg_locked_full(ngx_vidgen_pg_t *pg)
{
    return pg->blocked + pg->behind >= ngx_max(pg->conf->queue / 2, 1);
}


void
ngx_vidgen_pg_locked_follow(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_call_t *first,
    ngx_vidgen_pg_call_t *call)
{
    ngx_vidgen_pg_count(pg, call);

    call->behind = 1;
    pg->behind++;

    ngx_queue_insert_tail(&first->followers, &call->link);
}


void
ngx_vidgen_pg_locked_met(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_flight_t *flight,
    ngx_vidgen_pg_call_t *call)
{
    if (flight->n > 1) {
        ngx_vidgen_pg_batch_part(pg, call, flight->n);

    } else if (call->statement->batch == 0) {
        ngx_vidgen_pg_requeue_later(pg, call);

    } else {
        ngx_vidgen_pg_locked_add(pg, call);
    }
}


static void
ngx_vidgen_pg_locked_add(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_call_t *call)
{
    ngx_vidgen_pg_call_t  *first;
    ngx_vidgen_pg_line_t  *line;

    line = ngx_vidgen_pg_line(pg, call->statement);

    if (!call->blocked) {

        if (!call->reserved && ngx_vidgen_pg_locked_full(pg)) {
            ngx_vidgen_pg_finish_outcome(call, NGX_VIDGEN_PG_UNAVAILABLE);
            return;
        }

        first = ngx_vidgen_pg_locked_first(pg, call);

        if (first) {
            ngx_vidgen_pg_locked_follow(pg, first, call);
            return;
        }

        ngx_vidgen_pg_locked_block(pg, call);

        ngx_vidgen_pg_locked_gather(pg, call, &line->aside->calls);
        ngx_vidgen_pg_locked_gather(pg, call, &line->calls);
    }

    if (call->tries++ < NGX_VIDGEN_PG_FIRST_TRIES) {
        ngx_vidgen_pg_requeue(pg, call);
        return;
    }

    ngx_vidgen_pg_count(pg, call);
    ngx_queue_insert_tail(&line->locked->calls, &call->link);
}


static void
ngx_vidgen_pg_locked_block(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_call_t *call)
{
    (void) ngx_vidgen_pg_locked_key(call);

    call->blocked = 1;
    call->tries = 0;

    ngx_queue_init(&call->followers);
    ngx_queue_insert_tail(&pg->rows, &call->row);

    pg->blocked++;
    pg->company = 1;
}


/* those that wait already, and would meet the same lock */

static void
ngx_vidgen_pg_locked_gather(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_call_t *first,
    ngx_queue_t *calls)
{
    ngx_queue_t           *q, *next;
    ngx_vidgen_pg_call_t  *call;

    if (first->statement->key == 0) {
        return;
    }

    for (q = ngx_queue_head(calls);
         q != ngx_queue_sentinel(calls);
         q = next)
    {
        next = ngx_queue_next(q);
        call = ngx_queue_data(q, ngx_vidgen_pg_call_t, link);

        if (ngx_vidgen_pg_locked_key(call) == first->key) {
            ngx_vidgen_pg_dequeue(pg, call);
            ngx_vidgen_pg_locked_follow(pg, first, call);
        }
    }
}


void
ngx_vidgen_pg_locked_leave(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_call_t *call,
    ngx_uint_t through)
{
    if (call->behind) {
        call->behind = 0;
        pg->behind--;
        return;
    }

    call->blocked = 0;
    pg->blocked--;

    ngx_queue_remove(&call->row);

    if (through) {
        ngx_vidgen_pg_locked_let_go(pg, call);

    } else if (!ngx_queue_empty(&call->followers)) {
        ngx_vidgen_pg_locked_succeed(pg, call);
    }
}


/* home, in their order */

static void
ngx_vidgen_pg_locked_let_go(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_call_t *call)
{
    ngx_queue_t           *q;
    ngx_vidgen_pg_call_t  *follower;

    while (!ngx_queue_empty(&call->followers)) {
        q = ngx_queue_last(&call->followers);
        follower = ngx_queue_data(q, ngx_vidgen_pg_call_t, link);

        ngx_vidgen_pg_dequeue(pg, follower);

        follower->behind = 0;
        pg->behind--;

        follower->company = 0;

        ngx_vidgen_pg_requeue(pg, follower);
    }
}


static void
ngx_vidgen_pg_locked_succeed(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_call_t *call)
{
    ngx_queue_t           *q;
    ngx_vidgen_pg_call_t  *first;

    q = ngx_queue_head(&call->followers);
    first = ngx_queue_data(q, ngx_vidgen_pg_call_t, link);

    ngx_vidgen_pg_dequeue(pg, first);

    first->behind = 0;
    pg->behind--;

    ngx_vidgen_pg_locked_block(pg, first);

    if (!ngx_queue_empty(&call->followers)) {
        ngx_queue_add(&first->followers, &call->followers);
    }

    ngx_vidgen_pg_requeue(pg, first);
}
