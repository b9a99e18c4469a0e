#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <libpq-fe.h>
#include "io/ngx_vidgen_pg_batch.h"
#include "io/ngx_vidgen_pg_int.h"
#include "io/ngx_vidgen_pg_locked.h"


#define NGX_VIDGEN_PG_SCRATCH_KEEP  (256 * 1024)     /* bytes */
#define NGX_VIDGEN_PG_PARTS         8                /* of one that failed */


static ngx_int_t ngx_vidgen_pg_scratch(ngx_vidgen_pg_t *pg, size_t size);
static size_t ngx_vidgen_pg_params_size(ngx_vidgen_pg_flight_t *flight);
static u_char *ngx_vidgen_pg_array(u_char *p, ngx_vidgen_pg_flight_t *flight,
    ngx_uint_t param);
static u_char *ngx_vidgen_pg_element(u_char *p, ngx_str_t *value);
static void ngx_vidgen_pg_give_rows(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_flight_t *flight);
static ngx_uint_t ngx_vidgen_pg_match_ordinals(ngx_vidgen_pg_flight_t *flight,
    ngx_int_t *rows);
static void ngx_vidgen_pg_give_error(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_flight_t *flight, ngx_vidgen_pg_verdict_e verdict);
static void ngx_vidgen_pg_reject(ngx_vidgen_pg_call_t *call,
    PGresult *error);
static void ngx_vidgen_pg_complain(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_flight_t *flight);


void
ngx_vidgen_pg_batch_collect(ngx_vidgen_pg_line_t *line,
    ngx_vidgen_pg_flight_t *flight)
{
    ngx_uint_t             most;
    ngx_queue_t           *q;
    ngx_vidgen_pg_t       *pg;
    ngx_vidgen_pg_call_t  *call;

    pg = flight->conn->pg;

    flight->n = 0;
    flight->live = 0;
    flight->timeout = pg->timeout;

    most = flight->size;

    if (line->lane == pg->locked) {
        most = ngx_min(most, pg->company);
    }

    while (!ngx_queue_empty(&line->calls)) {
        q = ngx_queue_head(&line->calls);
        call = ngx_queue_data(q, ngx_vidgen_pg_call_t, link);

        if (call->company && line->lane != pg->locked) {
            most = ngx_min(most, call->company);
        }

        if (flight->n && flight->n >= most) {
            break;
        }

        ngx_vidgen_pg_dequeue(pg, call);

        call->flight = flight;
        call->slot = flight->n;

        flight->calls[flight->n++] = call;
        flight->live++;
        flight->timeout = ngx_max(flight->timeout, call->timeout);
    }
}


ngx_int_t
ngx_vidgen_pg_batch_params(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_flight_t *flight, const char **values)
{
    u_char      *p;
    ngx_str_t   *value;
    ngx_uint_t   i;

    if (ngx_vidgen_pg_scratch(pg, ngx_vidgen_pg_params_size(flight))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    p = pg->scratch;
    value = flight->calls[0]->values;

    for (i = 0; i < flight->line->statement->params; i++) {

        values[i] = (char *) p;

        if (flight->line->statement->batch) {
            p = ngx_vidgen_pg_array(p, flight, i);

        } else if (value[i].data) {
            p = ngx_cpymem(p, value[i].data, value[i].len);

        } else {
            values[i] = NULL;
            continue;
        }

        *p++ = '\0';
    }

    return NGX_OK;
}


void
ngx_vidgen_pg_batch_give(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_flight_t *flight,
    ngx_vidgen_pg_verdict_e verdict)
{
    if (verdict == NGX_VIDGEN_PG_COMMITTED) {
        ngx_vidgen_pg_give_rows(pg, flight);

    } else {
        ngx_vidgen_pg_give_error(pg, flight, verdict);
    }
}


void
ngx_vidgen_pg_batch_part(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_call_t *call,
    ngx_uint_t n)
{
    call->company = (n + NGX_VIDGEN_PG_PARTS - 1) / NGX_VIDGEN_PG_PARTS;

    ngx_vidgen_pg_requeue(pg, call);
}


void
ngx_vidgen_pg_batch_lost(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_flight_t *flight)
{
    ngx_uint_t             i;
    ngx_vidgen_pg_call_t  *call;

    for (i = flight->n; i-- > 0; /* void */ ) {
        call = flight->calls[i];

        if (call == NULL) {
            continue;
        }

        /* without its Sync the server has rolled it back */

        if (flight->synced) {
            call->doubt = 1;
        }

        ngx_vidgen_pg_requeue(pg, call);
    }
}


static ngx_int_t
ngx_vidgen_pg_scratch(ngx_vidgen_pg_t *pg, size_t size)
{
    if (pg->scratch
        && (size > pg->scratch_size
            || (pg->scratch_size > NGX_VIDGEN_PG_SCRATCH_KEEP
                && size < NGX_VIDGEN_PG_SCRATCH_KEEP)))
    {
        ngx_free(pg->scratch);
        pg->scratch = NULL;
    }

    if (pg->scratch == NULL) {
        pg->scratch_size = ngx_max(size, 16384);

        pg->scratch = ngx_alloc(pg->scratch_size, pg->log);
        if (pg->scratch == NULL) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* enough, whatever has to be escaped */

static size_t
ngx_vidgen_pg_params_size(ngx_vidgen_pg_flight_t *flight)
{
    size_t       size;
    ngx_str_t   *value;
    ngx_uint_t   i, j;

    size = flight->line->statement->params * sizeof("{}");

    for (i = 0; i < flight->n; i++) {
        value = flight->calls[i]->values;

        for (j = 0; j < flight->line->statement->params; j++) {
            size += value[j].data ? 2 * value[j].len + sizeof("\"\",")
                                  : sizeof("NULL,");
        }
    }

    return size;
}


static u_char *
ngx_vidgen_pg_array(u_char *p, ngx_vidgen_pg_flight_t *flight,
    ngx_uint_t param)
{
    ngx_uint_t  i;

    *p++ = '{';

    for (i = 0; i < flight->n; i++) {
        if (i) {
            *p++ = ',';
        }

        p = ngx_vidgen_pg_element(p, &flight->calls[i]->values[param]);
    }

    *p++ = '}';

    return p;
}


static u_char *
ngx_vidgen_pg_element(u_char *p, ngx_str_t *value)
{
    u_char  *s, *last;

    if (value->data == NULL) {
        return ngx_cpymem(p, "NULL", sizeof("NULL") - 1);
    }

    *p++ = '"';

    last = value->data + value->len;

    for (s = value->data; s < last; s++) {
        if (*s == '"' || *s == '\\') {
            *p++ = '\\';
        }

        *p++ = *s;
    }

    *p++ = '"';

    return p;
}


static void
ngx_vidgen_pg_give_rows(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_flight_t *flight)
{
    ngx_int_t               *row;
    ngx_uint_t               i;
    ngx_vidgen_pg_call_t    *call;
    ngx_vidgen_pg_result_t   result;

    pg->readonly = 0;

    row = (ngx_int_t *) (flight->calls + flight->size);

    if (flight->line->statement->batch
        && ngx_vidgen_pg_match_ordinals(flight, row) != 0
        && !pg->mismatch)
    {
        pg->mismatch = 1;
        ngx_log_error(NGX_LOG_ALERT, pg->log, 0,
                      "vidgen: database: statement \"%s\" did not return one"
                      " row for each ordinal", flight->line->statement->name);
    }

    for (i = 0; i < flight->n; i++) {
        call = flight->calls[i];

        if (call == NULL) {
            continue;
        }

        ngx_memzero(&result, sizeof(ngx_vidgen_pg_result_t));

        result.outcome = NGX_VIDGEN_PG_DONE;
        result.rows_of = flight->rows;

        if (flight->line->statement->batch == 0) {
            result.rows = PQntuples(flight->rows);

        } else if (row[i] >= 0) {
            result.rows = 1;
            result.first = row[i];

        } else {
            result.outcome = NGX_VIDGEN_PG_REJECTED;
            ngx_memcpy(result.sqlstate, "XX000", sizeof("XX000"));
            ngx_str_set(&result.message, "no row, or more than one");
        }

        flight->calls[i] = NULL;

        ngx_vidgen_pg_finish(call, &result);
    }
}


/* rows[]: the row of each ordinal, -1 without exactly one; counts those */

static ngx_uint_t
ngx_vidgen_pg_match_ordinals(ngx_vidgen_pg_flight_t *flight, ngx_int_t *rows)
{
    char        *text;
    ngx_int_t    ordinal;
    ngx_uint_t   i, n, missing;

    for (i = 0; i < flight->n; i++) {
        rows[i] = -1;
    }

    n = PQnfields(flight->rows) ? PQntuples(flight->rows) : 0;

    for (i = 0; i < n; i++) {
        text = PQgetvalue(flight->rows, i, 0);
        ordinal = ngx_atoi((u_char *) text, ngx_strlen(text));

        if (ordinal >= 1 && (ngx_uint_t) ordinal <= flight->n) {
            rows[ordinal - 1] = (rows[ordinal - 1] == -1) ? (ngx_int_t) i
                                                          : -2;
        }
    }

    missing = 0;

    for (i = 0; i < flight->n; i++) {
        if (rows[i] < 0) {
            missing++;
        }
    }

    return missing;
}


static void
ngx_vidgen_pg_give_error(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_flight_t *flight,
    ngx_vidgen_pg_verdict_e verdict)
{
    ngx_uint_t             i;
    ngx_vidgen_pg_call_t  *call;

    if (verdict == NGX_VIDGEN_PG_RESOURCES) {
        ngx_vidgen_pg_complain(pg, flight);
    }

    /* from the last, so that what is queued again keeps its order */

    for (i = flight->n; i-- > 0; /* void */ ) {
        call = flight->calls[i];

        if (call == NULL) {
            continue;
        }

        flight->calls[i] = NULL;

        switch (verdict) {

        case NGX_VIDGEN_PG_COMMITTED:
            break;

        case NGX_VIDGEN_PG_FAULT:
            if (flight->n == 1) {
                ngx_vidgen_pg_reject(call, flight->error);
                break;
            }

            ngx_vidgen_pg_batch_part(pg, call, flight->n);
            break;

        case NGX_VIDGEN_PG_LOCKED:
            ngx_vidgen_pg_locked_met(pg, flight, call);
            break;

        case NGX_VIDGEN_PG_RESOURCES:
            ngx_vidgen_pg_finish_outcome(call, NGX_VIDGEN_PG_UNAVAILABLE);
            break;

        case NGX_VIDGEN_PG_RECONNECT:
        case NGX_VIDGEN_PG_WRONG_HOST:
            ngx_vidgen_pg_requeue(pg, call);
            break;

        case NGX_VIDGEN_PG_AGAIN_ALONE:
            call->company = ngx_min(call->statement->batch, 1);
            ngx_vidgen_pg_requeue_later(pg, call);
            break;

        case NGX_VIDGEN_PG_DOUBT:
            call->doubt = 1;
            /* fall through */

        case NGX_VIDGEN_PG_AGAIN:
        case NGX_VIDGEN_PG_PREPARE:
            ngx_vidgen_pg_requeue_later(pg, call);
            break;
        }
    }
}


static void
ngx_vidgen_pg_reject(ngx_vidgen_pg_call_t *call, PGresult *error)
{
    ngx_vidgen_pg_result_t  result;

    ngx_memzero(&result, sizeof(ngx_vidgen_pg_result_t));

    ngx_vidgen_pg_describe(error, &result);

    /* an execution before this one may have been committed, or be yet */

    if (call->doubt) {
        result.outcome = NGX_VIDGEN_PG_UNKNOWN;
    }

    ngx_vidgen_pg_finish(call, &result);
}


/* once a second at most: a full disk fails each execution */

static void
ngx_vidgen_pg_complain(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_flight_t *flight)
{
    ngx_vidgen_pg_result_t  result;

    if (pg->complained == ngx_time()) {
        return;
    }

    pg->complained = ngx_time();

    ngx_vidgen_pg_describe(flight->error, &result);

    ngx_log_error(NGX_LOG_ERR, pg->log, 0,
                  "vidgen: database: statement \"%s\" failed: %V",
                  flight->line->statement->name, &result.message);
}
