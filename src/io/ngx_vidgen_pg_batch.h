#ifndef _NGX_VIDGEN_PG_BATCH_H_INCLUDED_
#define _NGX_VIDGEN_PG_BATCH_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "io/ngx_vidgen_pg_int.h"
#include "io/ngx_vidgen_pg_outcome.h"


/*
 * Takes the calls of the line's next execution out of it, as many as may go
 * together; there is at least one.
 */
void ngx_vidgen_pg_batch_collect(ngx_vidgen_pg_line_t *line,
    ngx_vidgen_pg_flight_t *flight);

/*
 * The parameters of the execution, in pg->scratch until the next use of it.
 * NGX_ERROR: no memory.
 */
ngx_int_t ngx_vidgen_pg_batch_params(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_flight_t *flight, const char **values);

/*
 * Gives each call what became of it, for a flight that reached its sync point
 * and left its connection.  Calls handlers.
 */
void ngx_vidgen_pg_batch_give(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_flight_t *flight, ngx_vidgen_pg_verdict_e verdict);

/*
 * Queues a call of an execution of n again, aside: the one at fault is to be
 * found soon, and the others to be served soon, and each execution costs a
 * commit.
 */
void ngx_vidgen_pg_batch_part(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_call_t *call,
    ngx_uint_t n);

/* Queues all calls again: the connection was lost before the sync point. */
void ngx_vidgen_pg_batch_lost(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_flight_t *flight);


#endif /* _NGX_VIDGEN_PG_BATCH_H_INCLUDED_ */
