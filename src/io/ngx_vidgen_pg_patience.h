#ifndef _NGX_VIDGEN_PG_PATIENCE_H_INCLUDED_
#define _NGX_VIDGEN_PG_PATIENCE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "io/ngx_vidgen_pg_int.h"
#include "io/ngx_vidgen_pg_outcome.h"


/*
 * How long executions wait for locks: too long, and calls wait behind them
 * that have nothing to do with it; too short, and they give up what they would
 * have got, in their turn, from others like them.
 */

/* What a new connection is told, in ms: that of most executions. */
ngx_msec_t ngx_vidgen_pg_patience_usual(ngx_vidgen_pg_t *pg);

/* That of an execution whose calls and connection are known, in ms. */
ngx_msec_t ngx_vidgen_pg_patience(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_flight_t *flight);

/* True if executions of the line wait for others of their kind at present. */
ngx_uint_t ngx_vidgen_pg_patience_busy(ngx_vidgen_pg_line_t *line);

/*
 * An execution has ended, and left its lane: what follows from it for the
 * next ones.  took: ms since it was the first on its connection.
 */
void ngx_vidgen_pg_patience_ended(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_flight_t *flight, ngx_vidgen_pg_verdict_e verdict,
    ngx_msec_t took);


#endif /* _NGX_VIDGEN_PG_PATIENCE_H_INCLUDED_ */
