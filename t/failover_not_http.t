#!/usr/bin/perl

# A provider took the request and answered with what nginx cannot read to its
# end: no HTTP, or an interim answer before the final one.  Whether it
# accepted is not known, so credits stay held and its webhook may still come.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Socket::INET;
use Test::More;

use VidgenTest::Books qw(customer ledger wrong_books);
use VidgenTest::Http qw(post);
use VidgenTest::Jobs qw(attempts);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Sql;
use VidgenTest::Util qw(die_with_parent free_port);

my @answers = ("no HTTP at all\n", '{"request_id":"an-id"}',
    "HTTP/1.1 000 None\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\n\r\n"
    . "HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n"
    . '{"request_id":"an-id"}');

plan tests => 3 * @answers + 1;

my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 10,
    LocalPort => free_port(), ReuseAddr => 1) or die "listen: $@";

my $standin = fork // die "fork: $!";

if (!$standin) {
    die_with_parent();
    $SIG{PIPE} = 'IGNORE';
    for my $answer (@answers) {
        my $client = $listener->accept or last;
        my $in = '';
        while ($in !~ /\r\n\r\n/ || $in !~ /Content-Length: (\d+)/i
            || length($in) < index($in, "\r\n\r\n") + 4 + $1)
        {
            sysread $client, $in, 65536, length $in or last;
        }
        syswrite $client, $answer;
        close $client;
    }
    require POSIX;
    POSIX::_exit(0);
}

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo,
        STANDIN => 'http://127.0.0.1:' . $listener->sockport },
    config => <<'EOC')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_monitor  fails=100 interval=1h;
    vidgen_database "%%DB%%";

    vidgen_provider alpha {
        base %%STANDIN%%;
        submit {
            url     $vidgen_base/submit;
            body    /prompt $vidgen_prompt;
            job_id  /request_id;
        }
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /generate-video { vidgen_generate; }
    }
}
EOC

my $db = VidgenTest::Sql->new($pg);
my $user = customer($db, 10);

for my $i (0 .. $#answers) {
    my $answer = post($nginx->url('/generate-video'), { user_id => $user,
        model_id => 'm', prompt => 'p' });
    my $job = $answer->{json}{job_id};

    is($answer->{status}, 202, "answer $i: 202");
    like(attempts($db, $job),
        qr/^alpha unknown (?:- invalid_answer|103 http_103)$/,
        "answer $i: the attempt");
    is(ledger($db, $job), 'hold 1', "answer $i: credits are held");
}

is_deeply([wrong_books($db)], [], 'the books are right');

waitpid $standin, 0;
