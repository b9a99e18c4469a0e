#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <libpq-fe.h>
#include "io/ngx_vidgen_pg.h"
#include "io/ngx_vidgen_pg_conn.h"
#include "io/ngx_vidgen_pg_flight.h"
#include "io/ngx_vidgen_pg_int.h"
#include "io/ngx_vidgen_pg_locked.h"


static void ngx_vidgen_pg_work(ngx_event_t *ev);
static void ngx_vidgen_pg_reopen(ngx_vidgen_pg_t *pg);
static void ngx_vidgen_pg_deadline(ngx_event_t *ev);
static void ngx_vidgen_pg_forget_all(ngx_vidgen_pg_t *pg);
static void ngx_vidgen_pg_forget(ngx_queue_t *calls);
static ngx_int_t ngx_vidgen_pg_check(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_call_t *call);
static ngx_uint_t ngx_vidgen_pg_full(ngx_vidgen_pg_t *pg);


ngx_vidgen_pg_t *
ngx_vidgen_pg_create(ngx_cycle_t *cycle, ngx_vidgen_pg_conf_t *conf)
{
    ngx_uint_t        i;
    ngx_pool_t       *pool;
    ngx_vidgen_pg_t  *pg;

    pool = ngx_create_pool(NGX_DEFAULT_POOL_SIZE, cycle->log);
    if (pool == NULL) {
        return NULL;
    }

    pg = ngx_pcalloc(pool, sizeof(ngx_vidgen_pg_t));

    if (pg) {
        pg->conns = ngx_pcalloc(pool, conf->connections
                                      * sizeof(ngx_vidgen_pg_conn_t));
    }

    if (pg == NULL || pg->conns == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    pg->conf = conf;
    pg->pool = pool;
    pg->log = cycle->log;
    pg->timeout = conf->timeout;
    pg->company = 1;
    pg->ident.fd = (ngx_socket_t) -1;

    /* no more than there may be at providers anyway */

    pg->places = ngx_max(conf->queue, cycle->connection_n);

    ngx_queue_init(&pg->rows);
    ngx_queue_init(&pg->later);
    ngx_queue_init(&pg->free);

    pg->work.handler = ngx_vidgen_pg_work;
    pg->work.data = &pg->ident;
    pg->work.log = pg->log;

    pg->pause.handler = ngx_vidgen_pg_resume;
    pg->pause.data = &pg->ident;
    pg->pause.log = pg->log;
    pg->pause.cancelable = 1;

    /* nginx has initialised OpenSSL */

    PQinitOpenSSL(0, 0);

    for (i = 0; i < conf->connections; i++) {
        ngx_vidgen_pg_conn_init(&pg->conns[i], pg, i);
    }

    for (i = 0; i < conf->connections; i++) {
        ngx_vidgen_pg_conn_open(&pg->conns[i]);
    }

    ngx_vidgen_pg_track(pg);

    return pg;
}


void
ngx_vidgen_pg_destroy(ngx_vidgen_pg_t *pg)
{
    ngx_uint_t  i;

    for (i = 0; i < pg->conf->connections; i++) {
        ngx_vidgen_pg_conn_close(&pg->conns[i]);
    }

    ngx_vidgen_pg_forget_all(pg);

    if (pg->pause.timer_set) {
        ngx_del_timer(&pg->pause);
    }

    if (pg->work.posted) {
        ngx_delete_posted_event(&pg->work);
    }

    ngx_vidgen_pg_flight_free_all(pg);

    if (pg->scratch) {
        ngx_free(pg->scratch);
    }

    ngx_destroy_pool(pg->pool);
}


ngx_int_t
ngx_vidgen_pg_start(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_call_t *call)
{
    ngx_event_t           *deadline;
    ngx_vidgen_pg_call_t  *first;

    if (!call->reserved
        && (ngx_vidgen_pg_full(pg)
            || (pg->down
                && ngx_current_msec - pg->down_since > pg->timeout)))
    {
        return NGX_BUSY;
    }

    if (ngx_vidgen_pg_check(pg, call) != NGX_OK) {
        return NGX_BUSY;
    }

    call->doubt = 0;
    call->blocked = 0;
    call->behind = 0;
    call->company = 0;
    call->tries = 0;
    call->key = 0;

    first = ngx_vidgen_pg_locked_first(pg, call);

    if (first && !call->reserved && ngx_vidgen_pg_locked_full(pg)) {
        return NGX_BUSY;
    }

    /* not cancelable: a worker does not exit before its calls are answered */

    deadline = &call->deadline;

    ngx_memzero(deadline, sizeof(ngx_event_t));

    deadline->handler = ngx_vidgen_pg_deadline;
    deadline->data = &pg->ident;
    deadline->log = pg->log;

    ngx_add_timer(deadline, call->timeout ? call->timeout : pg->timeout);

    if (first) {
        ngx_vidgen_pg_locked_follow(pg, first, call);

    } else {
        ngx_vidgen_pg_enqueue(pg, call);
    }

    return NGX_OK;
}


ngx_int_t
ngx_vidgen_pg_reserve(ngx_vidgen_pg_t *pg)
{
    if (ngx_vidgen_pg_full(pg) || pg->reserved >= pg->places) {
        return NGX_BUSY;
    }

    pg->reserved++;

    return NGX_OK;
}


void
ngx_vidgen_pg_unreserve(ngx_vidgen_pg_t *pg)
{
    pg->reserved--;

    if (ngx_exiting) {
        ngx_vidgen_pg_post(pg);
    }
}


ngx_int_t
ngx_vidgen_pg_value(ngx_vidgen_pg_result_t *result, ngx_uint_t row,
    ngx_uint_t col, ngx_str_t *value)
{
    int        r, c;
    PGresult  *rows = result->rows_of;

    if (rows == NULL || row >= result->rows
        || col >= (ngx_uint_t) PQnfields(rows))
    {
        return NGX_DECLINED;
    }

    r = result->first + row;
    c = col;

    if (PQgetisnull(rows, r, c)) {
        return NGX_DECLINED;
    }

    value->data = (u_char *) PQgetvalue(rows, r, c);
    value->len = PQgetlength(rows, r, c);

    return NGX_OK;
}


void
ngx_vidgen_pg_stat(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_stat_t *stat)
{
    ngx_uint_t  i;

    ngx_memzero(stat, sizeof(ngx_vidgen_pg_stat_t));

    for (i = 0; i < pg->conf->connections; i++) {
        stat->connected += ngx_vidgen_pg_conn_usable(&pg->conns[i]);
    }

    stat->connections = pg->conf->connections;
    stat->waiting = pg->waiting;
    stat->reserved = pg->reserved;
    stat->reconnects = pg->reconnects;
    stat->executions = pg->executions;
    stat->calls = pg->calls;
}


void
ngx_vidgen_pg_post(ngx_vidgen_pg_t *pg)
{
    ngx_post_event(&pg->work, &ngx_posted_events);
}


void
ngx_vidgen_pg_finish(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result)
{
    if (call->deadline.timer_set) {
        ngx_del_timer(&call->deadline);
    }

    call->flight = NULL;

    if (call->blocked || call->behind) {
        ngx_vidgen_pg_locked_leave(ngx_queue_data(call->deadline.data,
                                                  ngx_vidgen_pg_t, ident),
                             call,
                             result->outcome == NGX_VIDGEN_PG_DONE
                             || result->outcome == NGX_VIDGEN_PG_REJECTED);
    }

    call->handler(call, result);
}


void
ngx_vidgen_pg_finish_outcome(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_outcome_e outcome)
{
    ngx_vidgen_pg_result_t  result;

    ngx_memzero(&result, sizeof(ngx_vidgen_pg_result_t));

    result.outcome = outcome;

    /* what is sure of the last execution is not of those before it */

    if (call->doubt) {
        result.outcome = NGX_VIDGEN_PG_UNKNOWN;
    }

    ngx_vidgen_pg_finish(call, &result);
}


void
ngx_vidgen_pg_track(ngx_vidgen_pg_t *pg)
{
    ngx_uint_t             i;
    ngx_vidgen_pg_conn_t  *conn;

    for (i = 0; i < pg->conf->connections; i++) {
        conn = &pg->conns[i];

        /* one that was closed on purpose is opened when it is needed */

        if (ngx_vidgen_pg_conn_usable(conn)
            || conn->state == NGX_VIDGEN_PG_CLOSED)
        {
            pg->down = 0;
            return;
        }
    }

    if (!pg->down) {
        pg->down = 1;
        pg->down_since = ngx_current_msec;
    }
}


ngx_uint_t
ngx_vidgen_pg_leaving(ngx_vidgen_pg_t *pg)
{
    return ngx_exiting && pg->waiting == 0 && pg->reserved == 0;
}


static void
ngx_vidgen_pg_work(ngx_event_t *ev)
{
    ngx_uint_t        i;
    ngx_vidgen_pg_t  *pg;

    pg = ngx_queue_data(ev, ngx_vidgen_pg_t, work);

    for (i = 0; i < pg->conf->connections; i++) {
        if (pg->conns[i].broken) {
            ngx_vidgen_pg_conn_settle(&pg->conns[i]);
        }
    }

    ngx_vidgen_pg_dispatch(pg);

    for (i = 0; i < pg->conf->connections; i++) {
        ngx_vidgen_pg_conn_settle(&pg->conns[i]);
    }

    if (pg->waiting) {
        ngx_vidgen_pg_reopen(pg);
    }
}


/* a connection that was closed as idle, in a worker that has to exit */

static void
ngx_vidgen_pg_reopen(ngx_vidgen_pg_t *pg)
{
    ngx_uint_t  i;

    for (i = 0; i < pg->conf->connections; i++) {
        if (pg->conns[i].state != NGX_VIDGEN_PG_CLOSED) {
            return;
        }
    }

    ngx_vidgen_pg_conn_open(&pg->conns[0]);
}


static void
ngx_vidgen_pg_deadline(ngx_event_t *ev)
{
    ngx_vidgen_pg_t         *pg;
    ngx_vidgen_pg_call_t    *call;
    ngx_vidgen_pg_flight_t  *flight;

    call = ngx_queue_data(ev, ngx_vidgen_pg_call_t, deadline);
    pg = ngx_queue_data(ev->data, ngx_vidgen_pg_t, ident);

    if (call->queued) {
        ngx_vidgen_pg_dequeue(pg, call);
        ngx_vidgen_pg_finish_outcome(call, NGX_VIDGEN_PG_UNAVAILABLE);
        return;
    }

    /* the flight goes on without it */

    flight = call->flight;
    flight->calls[call->slot] = NULL;

    if (--flight->live == 0) {

        /* what waits need not wait behind it, if there is another way */

        flight->conn->stalled = 1;

        ngx_vidgen_pg_flight_release(flight);
        ngx_vidgen_pg_track(pg);
        ngx_vidgen_pg_post(pg);
    }

    ngx_vidgen_pg_finish_outcome(call, NGX_VIDGEN_PG_UNKNOWN);
}


static void
ngx_vidgen_pg_forget_all(ngx_vidgen_pg_t *pg)
{
    ngx_queue_t           *q;
    ngx_vidgen_pg_lane_t  *lane;
    ngx_vidgen_pg_line_t  *line;
    ngx_vidgen_pg_call_t  *call;

    for (q = ngx_queue_head(&pg->rows);
         q != ngx_queue_sentinel(&pg->rows);
         q = ngx_queue_next(q))
    {
        call = ngx_queue_data(q, ngx_vidgen_pg_call_t, row);
        ngx_vidgen_pg_forget(&call->followers);
    }

    for (lane = pg->lanes; lane; lane = lane->next) {

        for (line = lane->lines; line; line = line->next) {
            ngx_vidgen_pg_forget(&line->calls);
        }

        if (lane->rest.timer_set) {
            ngx_del_timer(&lane->rest);
        }
    }

    ngx_vidgen_pg_forget(&pg->later);
}


static void
ngx_vidgen_pg_forget(ngx_queue_t *calls)
{
    ngx_queue_t           *q;
    ngx_vidgen_pg_call_t  *call;

    while (!ngx_queue_empty(calls)) {
        q = ngx_queue_head(calls);
        ngx_queue_remove(q);

        call = ngx_queue_data(q, ngx_vidgen_pg_call_t, link);

        if (call->deadline.timer_set) {
            ngx_del_timer(&call->deadline);
        }
    }
}


static ngx_int_t
ngx_vidgen_pg_check(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_call_t *call)
{
    ngx_str_t   *value;
    ngx_uint_t   i;

    if (ngx_vidgen_pg_line(pg, call->statement) == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < call->statement->params; i++) {
        value = &call->values[i];

        if (value->data && ngx_strlchr(value->data, value->data + value->len,
                                       '\0'))
        {
            ngx_log_error(NGX_LOG_ALERT, pg->log, 0,
                          "vidgen: database: NUL in parameter %ui of"
                          " statement \"%s\"", i + 1, call->statement->name);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_vidgen_pg_full(ngx_vidgen_pg_t *pg)
{
    return pg->waiting - pg->waiting_reserved >= pg->conf->queue;
}
