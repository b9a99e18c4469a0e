#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "io/ngx_vidgen_pg_conn.h"
#include "io/ngx_vidgen_pg_flight.h"
#include "io/ngx_vidgen_pg_int.h"
#include "io/ngx_vidgen_pg_patience.h"


#define NGX_VIDGEN_PG_RETRY  20       /* ms, at least; twice that at most */


static ngx_vidgen_pg_line_t *ngx_vidgen_pg_line_of(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_call_t *call);
static void ngx_vidgen_pg_add_line(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_lane_t *lane, ngx_vidgen_pg_line_t *line,
    ngx_vidgen_pg_line_t *home);
static ngx_vidgen_pg_lane_t *ngx_vidgen_pg_lane(ngx_vidgen_pg_t *pg,
    ngx_uint_t number);
static void ngx_vidgen_pg_add_lane(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_lane_t *lane, ngx_vidgen_pg_kind_e kind, ngx_uint_t number);
static void ngx_vidgen_pg_rested(ngx_event_t *ev);
static ngx_vidgen_pg_line_t *ngx_vidgen_pg_next_line(
    ngx_vidgen_pg_lane_t *lane);
static ngx_vidgen_pg_conn_t *ngx_vidgen_pg_pick_conn(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_line_t *line);
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

    line = ngx_pcalloc(pg->pool, 3 * sizeof(ngx_vidgen_pg_line_t));
    if (line == NULL) {
        return NULL;
    }

    line->statement = statement;
    line->aside = &line[1];
    line->locked = &line[2];

    ngx_vidgen_pg_add_line(pg, lane, line, line);
    ngx_vidgen_pg_add_line(pg, lane->aside, line->aside, line);
    ngx_vidgen_pg_add_line(pg, pg->locked, line->locked, line);

    pg->lines++;

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

    ngx_queue_insert_head(&ngx_vidgen_pg_line_of(pg, call)->calls,
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

            if (lane->flights || lane->rest.timer_set) {
                continue;
            }

            line = ngx_vidgen_pg_next_line(lane);

            if (line == NULL || line->statement->priority != priority) {
                continue;
            }

            do {
                conn = ngx_vidgen_pg_pick_conn(pg, line);

                if (conn == NULL) {
                    return;
                }

            } while (ngx_vidgen_pg_send_line(conn, line) == NGX_ERROR);
        }
    }
}


void
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


static ngx_vidgen_pg_line_t *
ngx_vidgen_pg_line_of(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_call_t *call)
{
    ngx_vidgen_pg_line_t  *line;

    line = ngx_vidgen_pg_line(pg, call->statement);

    return call->blocked ? line->locked : call->company ? line->aside : line;
}


static void
ngx_vidgen_pg_add_line(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_lane_t *lane,
    ngx_vidgen_pg_line_t *line, ngx_vidgen_pg_line_t *home)
{
    line->home = home;
    line->statement = home->statement;
    line->lane = lane;
    line->index = pg->lines;

    ngx_queue_init(&line->calls);

    line->next = lane->lines;
    lane->lines = line;
}


/* a home lane; with it, and with the first one, what else there is */

static ngx_vidgen_pg_lane_t *
ngx_vidgen_pg_lane(ngx_vidgen_pg_t *pg, ngx_uint_t number)
{
    ngx_vidgen_pg_lane_t  *lane;

    for (lane = pg->lanes; lane; lane = lane->next) {
        if (lane->kind == NGX_VIDGEN_PG_HOME && lane->number == number) {
            return lane;
        }
    }

    lane = ngx_pcalloc(pg->pool, 3 * sizeof(ngx_vidgen_pg_lane_t));
    if (lane == NULL) {
        return NULL;
    }

    lane->aside = &lane[1];

    /* on connections where few are at home */

    if (pg->locked == NULL) {
        pg->locked = &lane[2];
        ngx_vidgen_pg_add_lane(pg, pg->locked, NGX_VIDGEN_PG_LOCKED_ROWS,
                               pg->conf->connections - 1);
    }

    ngx_vidgen_pg_add_lane(pg, lane->aside, NGX_VIDGEN_PG_ASIDE, number + 1);
    ngx_vidgen_pg_add_lane(pg, lane, NGX_VIDGEN_PG_HOME, number);

    return lane;
}


static void
ngx_vidgen_pg_add_lane(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_lane_t *lane,
    ngx_vidgen_pg_kind_e kind, ngx_uint_t number)
{
    lane->kind = kind;
    lane->number = number;

    lane->rest.handler = ngx_vidgen_pg_rested;
    lane->rest.data = &pg->ident;
    lane->rest.log = pg->log;
    lane->rest.cancelable = 1;

    lane->next = pg->lanes;
    pg->lanes = lane;
}


static void
ngx_vidgen_pg_rested(ngx_event_t *ev)
{
    ngx_vidgen_pg_post(ngx_queue_data(ev->data, ngx_vidgen_pg_t, ident));
}


/*
 * By priority; among equals the one that was served longest ago.  Those that
 * wait for locked rows have turns only: each of them may be free by now.
 */

static ngx_vidgen_pg_line_t *
ngx_vidgen_pg_next_line(ngx_vidgen_pg_lane_t *lane)
{
    ngx_int_t              before;
    ngx_vidgen_pg_line_t  *line, *best;

    best = NULL;

    for (line = lane->lines; line; line = line->next) {

        if (ngx_queue_empty(&line->calls)) {
            continue;
        }

        if (best == NULL) {
            best = line;
            continue;
        }

        before = 0;

        if (lane->kind != NGX_VIDGEN_PG_LOCKED_ROWS) {
            before = (ngx_int_t) best->statement->priority
                     - (ngx_int_t) line->statement->priority;
        }

        if (before > 0 || (before == 0 && line->turn < best->turn)) {
            best = line;
        }
    }

    return best;
}


/*
 * A home lane has its own one, so that others do not defeat the batching.  It
 * avoids one on which a blocked call waits, unless its own are as slow; those
 * that are not at home take one that is idle.
 */

static ngx_vidgen_pg_conn_t *
ngx_vidgen_pg_pick_conn(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_line_t *line)
{
    ngx_uint_t             i, n, home, stays, best, score;
    ngx_vidgen_pg_conn_t  *conn, *found;

    n = pg->conf->connections;
    home = (line->lane->kind == NGX_VIDGEN_PG_HOME);
    stays = home && (line->statement->batch == 0
                     || ngx_vidgen_pg_patience_busy(line));

    found = NULL;
    best = 0;

    for (i = 0; i < n; i++) {
        conn = &pg->conns[(line->lane->number + i) % n];

        if (!ngx_vidgen_pg_conn_usable(conn)) {
            continue;
        }

        score = 1;

        if (!conn->patient || stays) {
            score += 2;
        }

        if (!home && ngx_queue_empty(&conn->flights)) {
            score++;
        }

        if (score > best) {
            found = conn;
            best = score;
        }
    }

    return found;
}


/*
 * One execution; several where each takes a single call, for else their
 * number would be bound to the time of a round trip.
 */

static ngx_int_t
ngx_vidgen_pg_send_line(ngx_vidgen_pg_conn_t *conn,
    ngx_vidgen_pg_line_t *line)
{
    ngx_int_t   rc;
    ngx_uint_t  i, n;

    line->turn = ++conn->pg->turn;

    n = (line->statement->batch > 1 || line->lane->kind != NGX_VIDGEN_PG_HOME)
        ? 1 : NGX_VIDGEN_PG_BURST;

    for (i = 0; i < n && !ngx_queue_empty(&line->calls); i++) {

        rc = ngx_vidgen_pg_flight_send(conn, line);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    return NGX_OK;
}
