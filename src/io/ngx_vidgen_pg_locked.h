#ifndef _NGX_VIDGEN_PG_LOCKED_H_INCLUDED_
#define _NGX_VIDGEN_PG_LOCKED_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "io/ngx_vidgen_pg_int.h"


/*
 * Calls that need what somebody else has locked.
 *
 * An execution waits for a lock for a short time.  If that is in vain its
 * calls part, and one that meets the lock alone is blocked: it is tried again
 * until its deadline, in turns with others, where nobody has to wait behind
 * it.  Calls with the same key follow it: they are not tried before it got
 * through.
 */

/*
 * The call that is blocked at the row which this one is known to need; NULL:
 * there is none.
 */
ngx_vidgen_pg_call_t *ngx_vidgen_pg_locked_first(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_call_t *call);

/* True if no more calls may wait for locked rows. */
ngx_uint_t ngx_vidgen_pg_locked_full(ngx_vidgen_pg_t *pg);

/* Has a call that is in no line wait until first got through. */
void ngx_vidgen_pg_locked_follow(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_call_t *first, ngx_vidgen_pg_call_t *call);

/*
 * The call's execution, which is over, met a lock.  It waits on somewhere, or
 * it is ended, which calls its handler, if too many do.
 */
void ngx_vidgen_pg_locked_met(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_flight_t *flight, ngx_vidgen_pg_call_t *call);

/*
 * A call that is blocked, or follows one, ends.  through: it got its row, so
 * that those which follow it may; else the first of these takes its place.
 */
void ngx_vidgen_pg_locked_leave(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_call_t *call, ngx_uint_t through);


#endif /* _NGX_VIDGEN_PG_LOCKED_H_INCLUDED_ */
