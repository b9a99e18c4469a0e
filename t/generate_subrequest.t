#!/usr/bin/perl

# A generation belongs to a client's request: in a subrequest (a mirror, an
# auth_request, an include) it is refused, nothing is asked or paid for it,
# and nothing of it stays behind.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 20;

use VidgenTest::Books qw(balance customer wrong_books);
use VidgenTest::Http qw(get post);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $alpha = VidgenTest::Provider->new(prefix => 'alpha');
my $beta = VidgenTest::Provider->new(prefix => 'beta');

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo, ALPHA => $alpha->url,
        BETA => $beta->url },
    config => <<'EOC')->start;
%%GLOBALS%%

worker_processes 1;

events { }

http {
    %%HTTP%%

    vidgen_database "%%DB%%";

    vidgen_provider alpha {
        base %%ALPHA%%;
        submit { url $vidgen_base/submit; job_id /request_id; }
    }
    vidgen_provider beta {
        base %%BETA%%;
        submit { url $vidgen_base/submit; job_id /request_id; }
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /one { vidgen_generate beta; }

        location = /both    { mirror /one; vidgen_generate alpha; }
        location = /mirror  { mirror /one; proxy_pass %%ALPHA%%/other; }
        location = /auth    { auth_request /one; proxy_pass %%ALPHA%%/other; }
        location = /include { ssi on; ssi_types *; alias %%PREFIX%%/page; }
        location = /page    { error_page 405 =200 /include; return 405; }

        # these are the client's request still
        location = /moved   { error_page 418 = @moved; return 418; }
        location = /rewrite { rewrite ^ /one last; }
        location @moved     { vidgen_generate beta; }

        location = /status { stub_status; }
    }
}
EOC

$nginx->write_file(page => 'before <!--# include virtual="/one" -->');

my $user = customer($pg, 10);

sub ask {
    my ($uri) = @_;
    return post($nginx->url($uri), { user_id => $user, model_id => 'm',
        prompt => 'p' });
}

sub refused {
    my ($n) = @_;
    return wait_for { $n == (() = $nginx->error_log
        =~ /\[error\].* vidgen: a generation in a subrequest is refused/g) };
}

my $answer = ask('/both');
is("$answer->{status} $answer->{json}{provider}", '200 alpha',
    'a mirrored generation: the client has its answer');
ok(refused(1), '... the mirror of it is refused');
is(balance($pg, $user), 9, '... it was paid once');

$alpha->forget_requests;
is(ask('/mirror')->{status}, 200, "a mirror: the client has its answer $_")
    for 1 .. 3;
ok(refused(4), '... each is refused');
is(@{ $alpha->requests }, 3, '... the request itself was passed on');

is(ask('/auth')->{status}, 500, 'an auth_request');
ok(refused(5), '... is refused');
is(@{ $alpha->requests }, 3, '... and nothing is passed on');

like(ask('/page')->{body}, qr/^before .*500 Internal/s, 'an include');
ok(refused(6), '... is refused');

is(@{ $beta->requests }, 0, 'nobody was asked for any of them');
is($pg->value('SELECT count(*) FROM video_jobs'), 1, 'nothing was begun');
ok(wait_for { get($nginx->url('/status'))->{body} =~ /Writing: 1 / },
    'no request stays behind');

for my $uri (qw(/moved /rewrite)) {
    is(ask($uri)->{status}, 200, "$uri is no subrequest");
}

is_deeply([balance($pg, $user), wrong_books($pg)], [7], 'the books are right');
ok($nginx->quit, 'nothing is left to be done');
