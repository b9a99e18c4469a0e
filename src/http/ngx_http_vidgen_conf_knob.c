#include <ngx_config.h>
#include <ngx_core.h>
#include "core/ngx_vidgen_secret.h"
#include "core/ngx_vidgen_url.h"
#include "http/ngx_http_vidgen_conf_knob.h"


#define NGX_HTTP_VIDGEN_KNOB_TIME  3153600000000    /* ms: PostgreSQL can tell
                                                       dates that far away */


static char *ngx_http_vidgen_knob_number(ngx_conf_t *cf, ngx_str_t *text,
    ngx_http_vidgen_knob_t *knob, ngx_str_t *value, void *field);
static char *ngx_http_vidgen_knob_secret(ngx_conf_t *cf, ngx_str_t *value,
    ngx_str_t *secret);
static char *ngx_http_vidgen_knob_url(ngx_str_t *value, ngx_str_t *url);


ngx_uint_t
ngx_http_vidgen_conf_knob(ngx_str_t *knob, const char *name, ngx_str_t *value)
{
    size_t  len;

    len = ngx_strlen(name);

    if (knob->len < len || ngx_strncmp(knob->data, name, len) != 0) {
        return 0;
    }

    value->data = knob->data + len;
    value->len = knob->len - len;

    return 1;
}


ngx_uint_t
ngx_http_vidgen_conf_set_knob(ngx_conf_t *cf, ngx_str_t *text,
    ngx_http_vidgen_knob_t *knobs, void *conf, char **rv)
{
    void                    *field;
    ngx_str_t                value;
    ngx_http_vidgen_knob_t  *knob;

    for (knob = knobs; knob->name; knob++) {
        if (ngx_http_vidgen_conf_knob(text, knob->name, &value)) {
            break;
        }
    }

    if (knob->name == NULL) {
        return 0;
    }

    field = (u_char *) conf + knob->offset;

    switch (knob->kind) {

    case NGX_HTTP_VIDGEN_SECRET:
        *rv = ngx_http_vidgen_knob_secret(cf, &value, field);
        break;

    case NGX_HTTP_VIDGEN_URL:
        *rv = ngx_http_vidgen_knob_url(&value, field);
        break;

    default:
        *rv = ngx_http_vidgen_knob_number(cf, text, knob, &value, field);
    }

    return 1;
}


static char *
ngx_http_vidgen_knob_number(ngx_conf_t *cf, ngx_str_t *text,
    ngx_http_vidgen_knob_t *knob, ngx_str_t *value, void *field)
{
    ngx_int_t   n, max;
    ngx_uint_t  may_be_off;

    max = knob->max;
    may_be_off = (knob->kind == NGX_HTTP_VIDGEN_TIME_OFF);

    if (knob->kind == NGX_HTTP_VIDGEN_NUMBER) {
        n = ngx_atoi(value->data, value->len);

    } else {
        n = (may_be_off && value->len == 3
             && ngx_strncmp(value->data, "off", 3) == 0)
            ? 0 : ngx_parse_time(value, 0);
        max = max ? max : NGX_HTTP_VIDGEN_KNOB_TIME;
    }

    if ((n < knob->min && !(may_be_off && n == 0)) || (max && n > max)) {
        return ngx_http_vidgen_conf_invalid(cf, text);
    }

    if (knob->kind == NGX_HTTP_VIDGEN_NUMBER) {
        *(ngx_uint_t *) field = n;

    } else {
        *(ngx_msec_t *) field = n;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_vidgen_knob_secret(ngx_conf_t *cf, ngx_str_t *value,
    ngx_str_t *secret)
{
    ngx_int_t  rc;

    rc = ngx_vidgen_secret_read(cf, value, secret);

    if (rc == NGX_DECLINED) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%V\" is not set or empty",
                           value);
    }

    if (rc != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    /* both end up in a URL or in JSON */

    return ngx_vidgen_url_is_clean(secret)
           ? NGX_CONF_OK : "has a \"token=\" or \"chat=\" with characters that"
                           " neither has";
}


static char *
ngx_http_vidgen_knob_url(ngx_str_t *value, ngx_str_t *url)
{
    while (value->len && value->data[value->len - 1] == '/') {
        value->len--;
    }

    if (ngx_vidgen_url_origin(value) == 0 || !ngx_vidgen_url_is_clean(value)) {
        return "must have in \"url=\" one that begins with \"https://\""
               " or \"http://\"";
    }

    *url = *value;

    return NGX_CONF_OK;
}


char *
ngx_http_vidgen_conf_invalid(ngx_conf_t *cf, ngx_str_t *knob)
{
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"", knob);

    return NGX_CONF_ERROR;
}


ngx_str_t
ngx_http_vidgen_conf_knob_name(ngx_str_t *text)
{
    ngx_str_t  name;

    name.data = text->data;
    name.len = 0;

    while (name.len < text->len && name.data[name.len] != '=') {
        name.len++;
    }

    return name;
}
