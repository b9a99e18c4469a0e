#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "io/ngx_vidgen_pg_conn.h"
#include "io/ngx_vidgen_pg_patience.h"


/* ms */
#define NGX_VIDGEN_PG_USUAL   100    /* an execution waits for a lock */
#define NGX_VIDGEN_PG_BRIEF   10     /* a part of one that failed does */
#define NGX_VIDGEN_PG_TURN    50     /* one of many blocked calls */
#define NGX_VIDGEN_PG_ROUND   200    /* all of them together */
#define NGX_VIDGEN_PG_REST    25     /* between them */
#define NGX_VIDGEN_PG_LATELY  2000

#define NGX_VIDGEN_PG_CROWD   64     /* calls */


static ngx_msec_t ngx_vidgen_pg_patience_most(ngx_vidgen_pg_t *pg);
static ngx_msec_t ngx_vidgen_pg_patience_blocked(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_flight_t *flight);
static ngx_uint_t ngx_vidgen_pg_way_round(ngx_vidgen_pg_t *pg);
static void ngx_vidgen_pg_patience_note(ngx_vidgen_pg_line_t *line,
    ngx_msec_t took);


ngx_msec_t
ngx_vidgen_pg_patience_usual(ngx_vidgen_pg_t *pg)
{
    return ngx_min(NGX_VIDGEN_PG_USUAL, ngx_vidgen_pg_patience_most(pg));
}


ngx_uint_t
ngx_vidgen_pg_patience_busy(ngx_vidgen_pg_line_t *line)
{
    line = line->home;

    return 4 * line->took > NGX_VIDGEN_PG_USUAL
           && ngx_current_msec - line->noted < NGX_VIDGEN_PG_LATELY;
}


/*
 * Where there is so much traffic that executions wait for each other, on this
 * machine or another, they are patient: what parts only makes more of them.
 */

ngx_msec_t
ngx_vidgen_pg_patience(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_flight_t *flight)
{
    ngx_msec_t             patience, most;
    ngx_vidgen_pg_line_t  *line;

    line = flight->line;
    most = ngx_vidgen_pg_patience_most(pg);

    if (line->statement->batch == 0) {
        return most;
    }

    if (line->lane->kind == NGX_VIDGEN_PG_ASIDE) {
        return ngx_min(NGX_VIDGEN_PG_BRIEF, most);
    }

    if (line->lane == pg->locked) {
        return ngx_min(ngx_vidgen_pg_patience_blocked(pg, flight), most);
    }

    patience = NGX_VIDGEN_PG_USUAL;

    if (ngx_vidgen_pg_patience_busy(line)) {
        patience = ngx_max(patience, 4 * line->took);
    }

    return ngx_min(patience, most);
}


/* others may have to wait behind it, several times */

static ngx_msec_t
ngx_vidgen_pg_patience_most(ngx_vidgen_pg_t *pg)
{
    return ngx_max(pg->timeout / 16, 1);
}


static ngx_msec_t
ngx_vidgen_pg_patience_blocked(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_flight_t *flight)
{
    ngx_msec_t      patience;
    ngx_msec_int_t  left;

    patience = NGX_VIDGEN_PG_USUAL;

    if (ngx_vidgen_pg_way_round(pg)) {
        patience = ngx_max(NGX_VIDGEN_PG_ROUND / pg->blocked,
                           NGX_VIDGEN_PG_TURN);

        if (ngx_vidgen_pg_patience_busy(flight->line)) {
            patience = ngx_max(patience, 4 * flight->line->home->took);
        }
    }

    /* so that it is known not to be done when its deadline comes */

    left = (ngx_msec_int_t) (flight->calls[0]->deadline.timer.key
                             - ngx_current_msec);

    return ngx_min(patience, (ngx_msec_t) ngx_max(left - left / 4, 1));
}


/* can the others go by another connection? */

static ngx_uint_t
ngx_vidgen_pg_way_round(ngx_vidgen_pg_t *pg)
{
    ngx_uint_t  i, n;

    n = 0;

    for (i = 0; i < pg->conf->connections; i++) {
        n += ngx_vidgen_pg_conn_usable(&pg->conns[i]);
    }

    return n > 1;
}


void
ngx_vidgen_pg_patience_ended(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_flight_t *flight, ngx_vidgen_pg_verdict_e verdict,
    ngx_msec_t took)
{
    ngx_msec_t             rest;
    ngx_vidgen_pg_lane_t  *lane;

    lane = flight->line->lane;

    if (verdict == NGX_VIDGEN_PG_COMMITTED
        && lane->kind != NGX_VIDGEN_PG_ASIDE)
    {
        ngx_vidgen_pg_patience_note(flight->line->home, took);
    }

    if (lane != pg->locked) {
        return;
    }

    /* what held one up may have held up others */

    pg->company = (verdict == NGX_VIDGEN_PG_COMMITTED)
                  ? ngx_min(2 * pg->company, NGX_VIDGEN_PG_CROWD) : 1;

    if (verdict == NGX_VIDGEN_PG_LOCKED) {
        rest = NGX_VIDGEN_PG_REST;

        if (!ngx_vidgen_pg_way_round(pg)) {
            rest = ngx_max(rest, 3 * flight->patience);
        }

        ngx_add_timer(&lane->rest, rest);
    }
}


/*
 * Rises soon and falls slowly.  One that met a lock by chance does not count:
 * where they wait for each other, all do.
 */

static void
ngx_vidgen_pg_patience_note(ngx_vidgen_pg_line_t *line, ngx_msec_t took)
{
    ngx_msec_t  least;

    least = ngx_min(took, line->last);

    if (ngx_current_msec - line->noted >= NGX_VIDGEN_PG_LATELY) {
        line->took = took;

    } else if (least > line->took) {
        line->took += (least - line->took + 1) / 2;

    } else {
        line->took -= (line->took - least + 15) / 16;
    }

    line->last = took;
    line->noted = ngx_current_msec;
}
