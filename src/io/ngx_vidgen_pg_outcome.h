#ifndef _NGX_VIDGEN_PG_OUTCOME_H_INCLUDED_
#define _NGX_VIDGEN_PG_OUTCOME_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <libpq-fe.h>
#include "io/ngx_vidgen_pg.h"


/* what is known about a transaction, and what to do */
typedef enum {
    NGX_VIDGEN_PG_COMMITTED = 0,
    NGX_VIDGEN_PG_FAULT,         /* rolled back, for the fault of one event,
                                    which is found and rejected */
    NGX_VIDGEN_PG_AGAIN,         /* rolled back by chance: the same again */
    NGX_VIDGEN_PG_AGAIN_ALONE,   /* rolled back since it took too long: again,
                                    each alone */
    NGX_VIDGEN_PG_LOCKED,        /* rolled back since somebody holds a lock:
                                    again, without the one that needs it */
    NGX_VIDGEN_PG_PREPARE,       /* rolled back; the server does not know the
                                    prepared statement any more: again */
    NGX_VIDGEN_PG_RECONNECT,     /* rolled back; again on a new connection */
    NGX_VIDGEN_PG_WRONG_HOST,    /* rolled back; again on another host */
    NGX_VIDGEN_PG_RESOURCES,     /* rolled back; the server has no room */
    NGX_VIDGEN_PG_DOUBT          /* may be committed: the same again */
} ngx_vidgen_pg_verdict_e;


/* Of an error result that came before the sync point of its execution. */
ngx_vidgen_pg_verdict_e ngx_vidgen_pg_verdict(PGresult *error);

/* Fills outcome (REJECTED), sqlstate and message of result. */
void ngx_vidgen_pg_describe(PGresult *error, ngx_vidgen_pg_result_t *result);

/*
 * True for the warning that a commit was not waited for on the synchronous
 * standby.
 */
ngx_uint_t ngx_vidgen_pg_notice_is_doubt(const PGresult *notice);


#endif /* _NGX_VIDGEN_PG_OUTCOME_H_INCLUDED_ */
