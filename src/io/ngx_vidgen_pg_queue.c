#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "io/ngx_vidgen_pg_conn.h"
#include "io/ngx_vidgen_pg_flight.h"
#include "io/ngx_vidgen_pg_int.h"


#define NGX_VIDGEN_PG_RETRY  20       /* ms, at least; twice that at most */


static void ngx_vidgen_pg_count(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_call_t *call);
static ngx_vidgen_pg_lane_t *ngx_vidgen_pg_lane(ngx_vidgen_pg_t *pg,
    ngx_uint_t number);
static ngx_vidgen_pg_line_t *ngx_vidgen_pg_next_line(
    ngx_vidgen_pg_lane_t *lane);
static ngx_vidgen_pg_conn_t *ngx_vidgen_pg_pick_conn(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_lane_t *lane);
static ngx_int_t ngx_vidgen_pg_send_line(ngx_vidgen_pg_conn_t *conn,
    ngx_vidgen_pg_line_t *line);


ngx_vidgen_pg_line_t *
ngx_vidgen_pg_line(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_statement_t *statement)
{
    ngx_vidgen_pg_lane_t  *lane;
    ngx_vidgen_pg_line_t  *line;

    lane = ngx_vidgen_pg_lane(pg, statement->lane);
    if (lane == NULL) {
        return NULL;
    }

    for (line = lane->lines; line; line = line->next) {
        if (line->statement == statement) {
            return line;
        }
    }

    if (pg->lines == NGX_VIDGEN_PG_LINES_MAX
        || statement->params > NGX_VIDGEN_PG_PARAMS_MAX
        || statement->priority >= NGX_VIDGEN_PG_PRIORITIES)
    {
        ngx_log_error(NGX_LOG_ALERT, pg->log, 0,
                      "vidgen: database: statement \"%s\" breaks a limit",
                      statement->name);
        return NULL;
    }

    line = ngx_pcalloc(pg->pool, sizeof(ngx_vidgen_pg_line_t));
    if (line == NULL) {
        return NULL;
    }

    line->statement = statement;
    line->lane = lane;
    line->index = pg->lines++;

    ngx_queue_init(&line->calls);

    line->next = lane->lines;
    lane->lines = line;

    return line;
}


void
ngx_vidgen_pg_enqueue(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_call_t *call)
{
    ngx_vidgen_pg_count(pg, call);

    ngx_queue_insert_tail(&ngx_vidgen_pg_line(pg, call->statement)->calls,
                          &call->link);
}


void
ngx_vidgen_pg_dequeue(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_call_t *call)
{
    ngx_queue_remove(&call->link);

    call->queued = 0;

    pg->waiting--;

    if (call->reserved) {
        pg->waiting_reserved--;
    }
}


void
ngx_vidgen_pg_requeue(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_call_t *call)
{
    ngx_vidgen_pg_count(pg, call);

    ngx_queue_insert_head(&ngx_vidgen_pg_line(pg, call->statement)->calls,
                          &call->link);
}


void
ngx_vidgen_pg_requeue_later(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_call_t *call)
{
    ngx_vidgen_pg_count(pg, call);

    ngx_queue_insert_tail(&pg->later, &call->link);

    if (!pg->pause.timer_set) {
        ngx_add_timer(&pg->pause, NGX_VIDGEN_PG_RETRY
                           + (ngx_msec_t) ngx_random() % NGX_VIDGEN_PG_RETRY);
    }
}


void
ngx_vidgen_pg_resume(ngx_event_t *ev)
{
    ngx_queue_t           *q;
    ngx_vidgen_pg_t       *pg;
    ngx_vidgen_pg_call_t  *call;

    pg = ngx_queue_data(ev, ngx_vidgen_pg_t, pause);

    while (!ngx_queue_empty(&pg->later)) {
        q = ngx_queue_head(&pg->later);
        call = ngx_queue_data(q, ngx_vidgen_pg_call_t, link);

        ngx_vidgen_pg_dequeue(pg, call);
        ngx_vidgen_pg_requeue(pg, call);
    }
}


void
ngx_vidgen_pg_dispatch(ngx_vidgen_pg_t *pg)
{
    ngx_uint_t             priority;
    ngx_vidgen_pg_conn_t  *conn;
    ngx_vidgen_pg_lane_t  *lane;
    ngx_vidgen_pg_line_t  *line;

    for (priority = 0; priority < NGX_VIDGEN_PG_PRIORITIES; priority++) {

        for (lane = pg->lanes; lane; lane = lane->next) {

            if (lane->flights) {
                continue;
            }

            line = ngx_vidgen_pg_next_line(lane);

            if (line == NULL || line->statement->priority != priority) {
                continue;
            }

            do {
                conn = ngx_vidgen_pg_pick_conn(pg, lane);

                if (conn == NULL) {
                    return;
                }

            } while (ngx_vidgen_pg_send_line(conn, line) == NGX_ERROR);
        }
    }
}


static ngx_vidgen_pg_lane_t *
ngx_vidgen_pg_lane(ngx_vidgen_pg_t *pg, ngx_uint_t number)
{
    ngx_vidgen_pg_lane_t  *lane;

    for (lane = pg->lanes; lane; lane = lane->next) {
        if (lane->number == number) {
            return lane;
        }
    }

    lane = ngx_pcalloc(pg->pool, sizeof(ngx_vidgen_pg_lane_t));
    if (lane == NULL) {
        return NULL;
    }

    lane->number = number;
    lane->next = pg->lanes;
    pg->lanes = lane;

    return lane;
}


/* by priority; among equals the one that was served longest ago */

static ngx_vidgen_pg_line_t *
ngx_vidgen_pg_next_line(ngx_vidgen_pg_lane_t *lane)
{
    ngx_vidgen_pg_line_t  *line, *best;

    best = NULL;

    for (line = lane->lines; line; line = line->next) {

        if (ngx_queue_empty(&line->calls)) {
            continue;
        }

        if (best == NULL
            || line->statement->priority < best->statement->priority
            || (line->statement->priority == best->statement->priority
                && line->turn < best->turn))
        {
            best = line;
        }
    }

    return best;
}


/* its own one, so that others do not defeat the batching, or any */

static ngx_vidgen_pg_conn_t *
ngx_vidgen_pg_pick_conn(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_lane_t *lane)
{
    ngx_uint_t             i, n;
    ngx_vidgen_pg_conn_t  *conn;

    n = pg->conf->connections;

    for (i = 0; i < n; i++) {
        conn = &pg->conns[(lane->number + i) % n];

        if (ngx_vidgen_pg_conn_usable(conn)) {
            return conn;
        }
    }

    return NULL;
}


/*
 * One execution; several where each takes a single call, for else their
 * number would be bound to the time of a round trip.
 */

static ngx_int_t
ngx_vidgen_pg_send_line(ngx_vidgen_pg_conn_t *conn,
    ngx_vidgen_pg_line_t *line)
{
    ngx_int_t              rc;
    ngx_uint_t             i;
    ngx_queue_t           *q;
    ngx_vidgen_pg_call_t  *call;

    line->turn = ++conn->pg->turn;

    for (i = 0; i < NGX_VIDGEN_PG_BURST; i++) {

        if (ngx_queue_empty(&line->calls)) {
            return NGX_OK;
        }

        q = ngx_queue_head(&line->calls);
        call = ngx_queue_data(q, ngx_vidgen_pg_call_t, link);

        if (i && !call->alone && line->statement->batch > 1) {
            return NGX_OK;
        }

        rc = ngx_vidgen_pg_flight_send(conn, line);

        if (rc != NGX_OK) {
            return rc;
        }

        if (!call->alone && line->statement->batch > 1) {
            return NGX_OK;
        }
    }

    return NGX_OK;
}


static void
ngx_vidgen_pg_count(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_call_t *call)
{
    call->flight = NULL;
    call->queued = 1;

    pg->waiting++;

    if (call->reserved) {
        pg->waiting_reserved++;
    }

    ngx_vidgen_pg_post(pg);
}
