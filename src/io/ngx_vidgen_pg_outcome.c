#include <ngx_config.h>
#include <ngx_core.h>
#include <libpq-fe.h>
#include "io/ngx_vidgen_pg_outcome.h"


typedef struct {
    const char                *prefix;     /* of the SQLSTATE */
    const char                *function;   /* of the server that raised it;
                                              NULL: any */
    ngx_vidgen_pg_verdict_e    verdict;
} ngx_vidgen_pg_rule_t;


/* the first that matches decides; whatever is not listed is a fault */

static ngx_vidgen_pg_rule_t  ngx_vidgen_pg_rules[] = {

    { "08",    NULL, NGX_VIDGEN_PG_DOUBT },       /* connection exception */
    { "40003", NULL, NGX_VIDGEN_PG_DOUBT },       /* completion unknown */
    { "57014", NULL, NGX_VIDGEN_PG_AGAIN_ALONE }, /* query canceled */
    { "57P",   NULL, NGX_VIDGEN_PG_DOUBT },       /* the server goes down */

    { "40001", NULL, NGX_VIDGEN_PG_AGAIN },       /* serialization failure */
    { "40P01", NULL, NGX_VIDGEN_PG_AGAIN },       /* deadlock */
    { "55P03", NULL, NGX_VIDGEN_PG_LOCKED },      /* lock not available */

    { "25006", NULL, NGX_VIDGEN_PG_WRONG_HOST },  /* read-only transaction */
    { "26000", NULL, NGX_VIDGEN_PG_PREPARE },     /* no such statement */

    /* "cached plan must not change result type", after a migration */
    { "0A000", "RevalidateCachedQuery", NGX_VIDGEN_PG_RECONNECT },

    { "53",    NULL, NGX_VIDGEN_PG_RESOURCES },

    { NULL,    NULL, NGX_VIDGEN_PG_FAULT }
};


ngx_vidgen_pg_verdict_e
ngx_vidgen_pg_verdict(PGresult *error)
{
    const char            *sqlstate, *function;
    ngx_vidgen_pg_rule_t  *rule;

    sqlstate = PQresultErrorField(error, PG_DIAG_SQLSTATE);

    if (sqlstate == NULL) {
        /* made by libpq: the connection is lost or out of step */
        return NGX_VIDGEN_PG_DOUBT;
    }

    function = PQresultErrorField(error, PG_DIAG_SOURCE_FUNCTION);

    for (rule = ngx_vidgen_pg_rules; rule->prefix; rule++) {

        if (ngx_strncmp(sqlstate, rule->prefix, ngx_strlen(rule->prefix))
            != 0)
        {
            continue;
        }

        if (rule->function == NULL
            || (function && ngx_strcmp(function, rule->function) == 0))
        {
            break;
        }
    }

    return rule->verdict;
}


void
ngx_vidgen_pg_describe(PGresult *error, ngx_vidgen_pg_result_t *result)
{
    char  *field;

    result->outcome = NGX_VIDGEN_PG_REJECTED;

    field = PQresultErrorField(error, PG_DIAG_SQLSTATE);

    (void) ngx_cpystrn((u_char *) result->sqlstate,
                       (u_char *) (field ? field : "08000"),
                       sizeof(result->sqlstate));

    field = PQresultErrorField(error, PG_DIAG_MESSAGE_PRIMARY);

    result->message.data = (u_char *) (field ? field : "");
    result->message.len = ngx_strlen(result->message.data);
}


ngx_uint_t
ngx_vidgen_pg_notice_is_doubt(const PGresult *notice)
{
    const char  *function, *message;

    function = PQresultErrorField(notice, PG_DIAG_SOURCE_FUNCTION);

    if (function && ngx_strcmp(function, "SyncRepWaitForLSN") == 0) {
        return 1;
    }

    /* a fork may have renamed the function, a translation the message */

    message = PQresultErrorField(notice, PG_DIAG_MESSAGE_PRIMARY);

    return message && ngx_strstr(message, "synchronous replication") != NULL;
}
